# SPDX-License-Identifier: Apache-2.0
"""Train cnn as the JSON in argv says, and print results as JSON in the last line."""

import contextlib, ctypes, json, os, resource, struct, sys, warnings
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
warnings.filterwarnings("ignore")
import numpy, tensorflow as tf
from guest.bindings import runtime
from guest.models import cnn
tf.logging.set_verbosity(tf.logging.ERROR)
options = json.loads(sys.argv[1])
result = {"losses": [], "errors": [], "resident": [], "descriptors": []}

def attempt(function, *arguments):
    try:
        return function(*arguments)
    except Exception as e:
        result["errors"].append("%s: %s" % (type(e).__name__, e))

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096

# Makes the system refuse these calls with EPERM, as in a container: a seccomp filter
def forbid(*calls):
    code = struct.pack("HBBI", 0x20, 0, 0, 0)
    for n, call in enumerate(calls):
        code += struct.pack("HBBI", 0x15, len(calls) - 1 - n, 1 if n == len(calls) - 1 else 0, call)
    code += struct.pack("HBBI", 0x06, 0, 0, 0x50001) + struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0

# Takes half of node 0's memory, and makes the kernel keep more than the rest free on both nodes
def fill():
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_long] * 4
    size, mask = 1 << 30, ctypes.c_ulong(1)
    start = libc.mmap(None, size, 3, 0x22, -1, 0)
    policy = [ctypes.c_void_p(start), ctypes.c_size_t(size), 1, ctypes.byref(mask), ctypes.c_ulong(65), 0]
    libc.syscall(237, *policy)  # mbind: prefer node 0
    libc.mlock(ctypes.c_void_p(start), ctypes.c_size_t(size))
    return set_free(1600000)

def set_free(kilobytes):
    with open("/proc/sys/vm/min_free_kbytes", "r+") as f:
        before = int(f.read())
        f.seek(0)
        f.write(str(kilobytes))
    return before

if options.get("forbid"):
    forbid(*options["forbid"])
threads = options.get("threads", 1)
config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=threads)
if options.get("late"):
    tf.Session(config=config).close()
if options.get("runtime", True):
    attempt(runtime.load)
tf.set_random_seed(1)
inputs, train, loss = cnn.build(8)
data = numpy.random.RandomState(1)
feed = {placeholder: make(data) for placeholder, make in inputs}
with tf.Session(config=config) as session:
    session.run(tf.global_variables_initializer())
    if options.get("fill"):
        free = fill()
    for plan in options.get("plans", []):
        attempt(runtime.load_plan, plan)
    for step in range(options["steps"]):
        if options.get("announce"):
            print("step %d" % step)
            sys.stdout.flush()
        for path in options.get("profiles", {}).get(str(step), []):
            runtime.start_profile(path)
        with runtime.step() if runtime.loaded() else open(os.devnull):
            result["losses"].append(float(session.run([train, loss], feed)[1]).hex())
        if str(step) in options.get("ends", []):
            runtime.end_profile()
        if options.get("watch") and step % options["watch"] == 0:
            result["resident"].append(resident())
            result["descriptors"].append(len(os.listdir("/proc/self/fd")))
    if runtime.loaded():
        result["stats"] = runtime.stats()
    if options.get("fill"):
        set_free(free)
print(json.dumps(result))
