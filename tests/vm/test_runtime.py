# SPDX-License-Identifier: Apache-2.0
"""The runtime in a real guest: TensorFlow trains on it, and losses stay identical bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import boot, guest_code
from sentinel.runtime import build
from testbed import machine, vm
from testbed.guestlink.ssh import Shell
from testbed.vm import Vm
from tests import hand_plan

Json = dict[str, Any]
STEPS = 8
# Trains cnn as the JSON in argv says, and prints results as JSON in its last line
TRAIN = """
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
"""
# A training script without any use of the runtime
UNTOUCHED = """
import os, sys, warnings
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
warnings.filterwarnings("ignore")
import numpy, tensorflow as tf
from guest.models import cnn
tf.logging.set_verbosity(tf.logging.ERROR)
tf.set_random_seed(1)
inputs, train, loss = cnn.build(8)
data = numpy.random.RandomState(1)
feed = {placeholder: make(data) for placeholder, make in inputs}
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for step in range(int(sys.argv[1])):
        _, value = s.run([train, loss], feed)
        s.run(loss, feed)
        print(float(value).hex())
"""
# A script with SentinelHook and marked layers
HOOKED = """
import os, warnings
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
warnings.filterwarnings("ignore")
import numpy, tensorflow as tf
from guest.bindings import runtime
from guest.bindings.hook import SentinelHook
hook = SentinelHook(profile="/root/hook.json", skip=1)
tf.set_random_seed(1)
h = x = tf.placeholder(tf.float32, [4, 64])
for n in range(3):
    h = runtime.add_layer(tf.layers.dense(h, 64, activation=tf.nn.relu))
loss = tf.reduce_sum(h * h)
train = tf.train.GradientDescentOptimizer(0.001).minimize(loss)
with tf.train.MonitoredSession(hooks=[hook]) as session:
    for step in range(4):
        session.run(train, {x: numpy.ones([4, 64])})
"""
# Runs a script under guest.wrap, and prints the most bytes of node 0 that tensors held after a step
WATCHED = """
import sys
from guest import wrap
from guest.bindings import runtime
from guest.bindings.trainer import Trainer
plain, fast = Trainer._after, [0]
def after(trainer):
    plain(trainer)
    pools = runtime.stats()["pools"].values()
    fast.append(sum(pool["resident"][0] for pool in pools))
Trainer._after = after
try:
    wrap.main(sys.argv[1:])
finally:
    print("FAST %d" % max(fast))
"""
SCRIPTS = Path(__file__).parent.parent / "scripts"


class Trainer:
    """Trains in a guest with the runtime installed."""

    def __init__(self, shell: Shell, scratch: Path) -> None:
        self._shell, self._scratch = shell, scratch
        guest_code.deploy(shell)
        shell.put(build.build(), f"/opt/sentinel/{build.NAME}")
        shell.put(SCRIPTS, "/root/scripts")
        texts = (("train", TRAIN), ("untouched", UNTOUCHED), ("hooked", HOOKED), ("watched", WATCHED))
        for name, text in texts:
            self.put(f"/root/{name}.py", text)
        self.stock = self(runtime=False)["losses"]

    def __call__(self, steps: int = STEPS, **options: object) -> Json:
        """Run the training script; return its results, and the runtime's messages in `messages`."""
        arguments = json.dumps({"steps": steps, **options})
        # A step takes half a second on a quiet host; the limit only catches hangs.
        output = self.run(f"python2.7 /root/train.py '{arguments}'", timeout=600 + 60 * steps)
        lines = output.strip().splitlines()
        result: Json = json.loads(lines[-1])
        return {**result, "messages": [line for line in lines if line.startswith("sentinel: ")]}

    def run(self, command: str, *, check: bool = True, timeout: float = 1800) -> str:
        """Run a command in the guest and return its output."""
        completed = self._shell.run(
            f"cd /root && PYTHONPATH=/opt/sentinel {command} 2>&1", check=check, timeout=timeout
        )
        return completed.out

    def plan(self, profile: str, budget: str) -> Json:
        """Plan a profile of the guest, and put the plan beside it."""
        local = self._scratch / "script.json"
        self._shell.get(profile, local)
        target = local.with_suffix(".plan.json")
        options = ["--budget", budget, "--preset", "optane-6dimm", "-o", str(target)]
        command = [sys.executable, "-m", "sentinel.cli.main", "plan", str(local), *options]
        subprocess.run(command, check=True, capture_output=True)
        self._shell.put(target, profile.replace(".json", ".plan.json"))
        plan: Json = json.loads(target.read_text())
        return plan

    def put(self, path: str, text: str) -> str:
        local = self._scratch / Path(path).name
        local.write_text(text)
        self._shell.put(local, path)
        return path

    def get(self, path: str) -> Json:
        result: Json = json.loads(self.run(f"{'zcat' if path.endswith('.gz') else 'cat'} {path}"))
        return result


@pytest.fixture(scope="module")
def guest(kernel: str) -> Iterator[Vm]:
    with vm.running("runtime", boot.prepare(machine.load("two-node"), kernel=kernel).boot) as started:
        started.wait_ready()
        yield started


@pytest.fixture(scope="module")
def trainer(guest: Vm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    with guest.shell() as shell:
        yield Trainer(shell, tmp_path_factory.mktemp("scripts"))


@pytest.fixture(scope="module")
def profiling(trainer: Trainer) -> Json:
    """Results of a process that profiled steps 1, 2 and 4, 5."""
    paths = {"1": ["/root/first.json"], "4": ["/root/second.json.gz"]}
    return trainer(profiles=paths, ends=["2", "5"])


@pytest.fixture(scope="module")
def profiles(trainer: Trainer, profiling: Json) -> tuple[Json, Json]:
    assert profiling["errors"] == []
    return trainer.get("/root/first.json"), trainer.get("/root/second.json.gz")


@pytest.fixture(scope="module")
def plan(trainer: Trainer, profiles: tuple[Json, Json]) -> str:
    """The path of a plan that moves every tensor back and forth."""
    return trainer.put("/root/plan.json", json.dumps(hand_plan.make(profiles[0])))


def test_unmanaged_losses_equal_stock_tensorflow(trainer: Trainer) -> None:
    said = trainer()
    assert said["losses"] == trainer.stock
    assert len(set(trainer.stock)) == STEPS  # it does train
    assert said["stats"]["live"] < said["stats"]["peak"]
    assert said["stats"]["steps"] == STEPS


def test_profiled_losses_equal_stock_tensorflow(trainer: Trainer, profiling: Json) -> None:
    assert profiling["losses"] == trainer.stock


def test_profile_covers_the_whole_step(profiles: tuple[Json, Json]) -> None:
    for profile in profiles:
        ops = profile["ops"]
        count = len(ops["name"])
        assert {len(column) for column in ops.values()} == {count}
        assert (profile["counts"], profile["clock"]) == ("kernel", "guest")
        assert ops["layer"] == sorted(ops["layer"])
        assert ops["layer"][-1] >= 5
        assert sum("Conv2DBackprop" in kind for kind in ops["type"]) == 3
        for t in profile["tensors"]:
            assert -1 <= t["birth"] < t["death"] <= count
            assert t["birth"] == t["op"]
            positions = [position for position, _, _ in t["uses"]]
            assert positions == sorted(set(positions))
            assert all(t["birth"] <= position < t["death"] for position in positions)
            assert t["op"] >= 0 or t["name"]
            assert t["touched"] <= -(-t["size"] // 4096) * 4096
        names = {t.get("name") for t in profile["tensors"]}
        assert {"conv2d/kernel", "conv2d/kernel/Momentum", "dense/bias"} <= names
        # Operations that compute use tensors
        used = {position for t in profile["tensors"] for position, _, _ in t["uses"]}
        computing = {"_FusedConv2D", "MaxPool", "MatMul", "Conv2DBackpropInput", "ApplyMomentum"}
        assert {p for p in range(count) if ops["type"][p] in computing} <= used
        # The kernel counted that all of a large tensor was written
        relu = next(t for t in profile["tensors"] if t["op"] >= 0 and t["size"] == 8 * 28 * 28 * 16 * 4)
        assert relu["touched"] == relu["size"]
        assert relu["reads"] + relu["writes"] >= relu["size"] // 4096


def keys(profile: Json) -> Counter[tuple[Any, ...]]:
    names, occurrences = profile["ops"]["name"], profile["ops"]["occurrence"]
    return Counter(
        (
            t.get("name") or (names[t["op"]], occurrences[t["op"]], t["k"]),
            *(t[k] for k in ("size", "birth", "death", "thread", "kind")),
            str([(position, reads > 0, writes > 0) for position, reads, writes in t["uses"]]),
        )
        for t in profile["tensors"]
    )


def test_two_profiles_have_equal_tensors(profiles: tuple[Json, Json]) -> None:
    first, second = profiles
    assert first["graph"] == second["graph"]
    assert keys(first) == keys(second)
    assert max(keys(first).values()) == 1


def test_pages_discarded_during_a_move_are_not_failures(guest: Vm, tmp_path: Path) -> None:
    program, here = tmp_path / "release-while-moving", Path(__file__).parent
    flags = ["-std=c++14", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", f"-I{build.SOURCES}"]
    sources = [here / "release_while_moving.cc", build.SOURCES / "core" / "memory.cc"]
    subprocess.run(["g++", *flags, *sources, "-o", program], check=True)
    with guest.shell() as shell:
        shell.put(program, "/root/release-while-moving")
        moved, absent, failed = map(int, shell.run("/root/release-while-moving", timeout=1800).out.split())
    assert min(moved, absent) > 100  # both occur
    # The kernel may stop at such a page and leave the rest of the call
    assert failed <= (moved + absent + failed) / 300


def test_plan_that_moves_everything_keeps_losses(trainer: Trainer, plan: str) -> None:
    said = trainer(plans=[plan])
    assert said["errors"] == []
    assert said["losses"] == trainer.stock
    stats = said["stats"]
    assert (stats["planned"], stats["planned_steps"], stats["reprofile"]) == (True, STEPS, False)
    total = stats["total"]
    assert (total["unplanned"], total["busy"]) == (0, 0)
    assert total["promoted"] > 1 << 20
    assert total["demoted"] > 1 << 20
    # On a busy host a page may be in use during both attempts.
    assert total["failed"] <= (total["promoted"] + total["demoted"]) / 100
    pools = stats["pools"]
    tensors = json.loads(trainer.run(f"cat {plan}"))["tensors"]
    assert pools["arena"]["allocations"] == STEPS * sum(t["pool"] == "long" and "op" in t for t in tensors)
    assert pools["reserved"]["allocations"] == STEPS * sum(t["pool"] == "short" for t in tensors)
    # Between steps no planned tensor lives. The arena's pages are discarded, the reserved pool's are not.
    assert pools["arena"]["live"] == 0
    assert pools["arena"]["resident"] == [0, 0]
    assert pools["reserved"]["resident"][0] > 0
    assert pools["reserved"]["resident"][1] == 0


def test_losses_of_two_threads_are_close(trainer: Trainer, plan: str) -> None:
    said = trainer(threads=2, plans=[plan])
    assert [float.fromhex(x) for x in said["losses"]] == pytest.approx(
        [float.fromhex(x) for x in trainer.stock], rel=1e-3
    )


def assert_nothing_grows(said: Json) -> None:
    """Check that memory and descriptors do not grow after the first quarter of the steps."""
    resident, quarter = said["resident"], len(said["resident"]) // 4 + 1
    assert resident[-1] - max(resident[:quarter]) < 1 << 20, resident
    assert said["descriptors"][-1] <= max(said["descriptors"][:quarter]), said["descriptors"]


def test_memory_does_not_grow_in_200_steps(trainer: Trainer, plan: str) -> None:
    said = trainer(200, plans=[plan], watch=10)
    assert_nothing_grows(said)
    assert said["losses"][:STEPS] == trainer.stock


def test_memory_does_not_grow_in_2000_steps(
    request: pytest.FixtureRequest, trainer: Trainer, plan: str
) -> None:
    if not request.config.getoption("--slow"):
        pytest.skip("trains for twenty minutes; run with --slow")
    assert_nothing_grows(trainer(2000, watch=50))
    assert_nothing_grows(trainer(2000, plans=[plan], watch=50))


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ((237, 279), "sentinel: cannot set the memory policy (mbind: Operation not permitted)"),
        ((279,), "sentinel: cannot migrate pages (move_pages: Operation not permitted)"),
    ],
)
def test_training_continues_without_permission(
    trainer: Trainer, plan: str, calls: tuple[int, ...], message: str
) -> None:
    said = trainer(plans=[plan], forbid=calls)
    assert said["losses"] == trainer.stock
    assert [line[: len(message)] for line in said["messages"]].count(message) == 1
    assert said["stats"]["total"]["promoted"] == said["stats"]["total"]["demoted"] == 0
    assert said["stats"]["total"]["failed"] > 0


def test_fast_node_smaller_than_the_budget(trainer: Trainer, plan: str) -> None:
    said = trainer(plans=[plan], fill=True)
    assert said["losses"] == trainer.stock
    pools = said["stats"]["pools"]
    assert pools["reserved"]["resident"][1] > 0  # did not fit on node 0
    assert said["stats"]["planned"] is True


def test_invalid_plans_are_refused_and_training_continues(trainer: Trainer, plan: str) -> None:
    good = trainer.run(f"cat {plan}")
    bad = {
        "/root/none.json": None,
        "/root/empty.json": "",
        "/root/torn.json": good[: len(good) // 2],
        "/root/profile.json": '{"format": "sentinel-profile", "version": 1}',
        "/root/node.json": good.replace('"to": 1', '"to": 7'),
        "/root/torn.json.gz": "\x1f\x8b\x08",
    }
    for path, text in bad.items():
        if text is not None:
            trainer.put(path, text)
    said = trainer(plans=list(bad))
    assert said["losses"] == trainer.stock
    assert said["stats"]["planned"] is False
    assert len(said["errors"]) == len(bad)
    for path, error in zip(bad, said["errors"], strict=True):
        assert error.startswith(f"BadPlan: {path}: ")
        assert "\n" not in error


def test_steps_of_another_graph_stay_within_the_budget(trainer: Trainer, plan: str) -> None:
    other = trainer.put(
        "/root/other.json", json.dumps({**json.loads(trainer.run(f"cat {plan}")), "graph": "0" * 64})
    )
    said = trainer(plans=[other])
    assert said["losses"] == trainer.stock
    stats = said["stats"]
    assert (stats["planned_steps"], stats["other_steps"], stats["reprofile"]) == (0, STEPS, True)
    # Tensors outside the plan are in slow memory; its small constants hold whole pages of node 0
    small = sum("name" in t and t["size"] < 4096 for t in json.loads(trainer.run(f"cat {plan}"))["tensors"])
    assert stats["pools"]["unplanned"]["resident"][0] <= 4096 * small


def test_late_load_is_refused_with_a_reason(trainer: Trainer) -> None:
    said = trainer(late=True)
    assert said["losses"] == trainer.stock
    assert said["errors"][0].startswith("RuntimeUnavailable: too late: TensorFlow has allocated memory")


def test_early_load_is_refused_with_a_reason(trainer: Trainer) -> None:
    library_path = "LD_LIBRARY_PATH=/usr/local/lib/python2.7/dist-packages/tensorflow"
    preloaded = f"{library_path} LD_PRELOAD=/opt/sentinel/{build.NAME}"
    said = trainer.run(f"{preloaded} python2.7 -c 'import tensorflow'", check=False)
    assert "sentinel: LD_PRELOAD loads the runtime too early" in said
    said = trainer.run(
        f"{preloaded} python2.7 -c 'from guest.bindings import runtime; runtime.load()'", check=False
    )
    assert "is in LD_PRELOAD, which is too early" in said


def test_unmodified_script_is_profiled_and_planned(trainer: Trainer) -> None:
    wrapped = "python2.7 -m guest.wrap --stats /root/stats.json"
    first = trainer.run(f"{wrapped} --profile /root/wrapped.json --skip 2 untouched.py 5")
    assert first.split() == trainer.stock[:5]
    profile = trainer.get("/root/wrapped.json")
    assert profile["ops"]["type"].count("ApplyMomentum") == 6  # not of runs that do not train
    planned = trainer.put("/root/wrapped-plan.json", json.dumps(hand_plan.make(profile)))
    second = trainer.run(f"{wrapped} --plan {planned} untouched.py 4")
    assert second.split() == trainer.stock[:4]
    stats = trainer.get("/root/stats.json")
    assert (stats["planned_steps"], stats["total"]["unplanned"]) == (4, 0)


@pytest.mark.parametrize(
    ("script", "planned", "fast"),
    [
        ("forked_worker.py fork mid", 12, True),
        ("summary_in_first_step.py", 10, True),
        ("queue_runners.py", 20, False),
        ("worker_processes.py", 30, False),
        ("monitored.py", 8, False),  # every fourth step has a summary too
        ("conditional.py", 14, False),
        ("accumulated_gradients.py", 14, False),
        ("varying_lengths.py", 1, False),
    ],
)
def test_scripts_stay_within_the_budget(
    request: pytest.FixtureRequest, trainer: Trainer, script: str, planned: int, fast: bool
) -> None:
    if not fast and not request.config.getoption("--slow"):
        pytest.skip("trains three times; run with --slow")
    stock = trainer.run(f"python2.7 scripts/{script}")
    wrapped = "python2.7 watched.py --stats /root/stats.json"
    trainer.run("rm -f /root/script.json")
    profiled = trainer.run(f"{wrapped} --profile /root/script.json --skip 4 scripts/{script}")
    plan = trainer.plan("/root/script.json", "80%")
    said = trainer.run(f"{wrapped} --plan /root/script.plan.json scripts/{script}")
    losses = [line for line in stock.splitlines() if line.startswith("LOSS")]
    assert losses
    for output in (profiled, said):
        assert [line for line in output.splitlines() if line.startswith("LOSS")] == losses
        assert "DONE" in output
    stats = trainer.get("/root/stats.json")
    assert stats["planned_steps"] >= planned
    assert int(said.split()[-1]) <= plan["budget"]


@pytest.mark.parametrize(
    ("script", "fast"),
    [
        ("hogwild.py", True),
        ("evaluation_thread.py", False),
        ("two_threads.py", False),
        ("default_threads.py", False),
        ("partial_run.py", False),
        ("sparse_fetch.py", False),
        ("assigned_variables.py", False),
        ("keras_fit.py", False),
        ("dcgan.py", False),
        ("late_runtime.py", False),
    ],
)
def test_scripts_of_all_kinds_finish(
    request: pytest.FixtureRequest, trainer: Trainer, script: str, fast: bool
) -> None:
    if not fast and not request.config.getoption("--slow"):
        pytest.skip("one of many; run with --slow")
    trainer.run("rm -f /root/script.json")
    wrapped = "python2.7 watched.py --stats /root/stats.json"
    assert "DONE" in trainer.run(f"{wrapped} --profile /root/script.json --skip 4 scripts/{script}")
    if trainer.run("ls /root/script.json", check=False).startswith("/root"):
        plan = trainer.plan("/root/script.json", "80%")
        said = trainer.run(f"{wrapped} --plan /root/script.plan.json scripts/{script}")
        assert "DONE" in said
        assert int(said.split()[-1]) <= plan["budget"]


def test_graphs_are_freed(trainer: Trainer) -> None:
    assert "GRAPHS ALIVE 0 of 5" in trainer.run("python2.7 scripts/many_graphs.py")
    assert "GRAPHS ALIVE 0 of 5" in trainer.run("python2.7 -m guest.wrap scripts/many_graphs.py")


def test_failed_runs_are_not_steps(trainer: Trainer) -> None:
    said = trainer.run("python2.7 scripts/failing_runs.py")
    assert said.count("LOSS") == 18
    profile = trainer.get("/root/failing.json")
    assert profile["ops"]["type"].count("ApplyGradientDescent") == 4
    assert not [w for w in profile["warnings"] if "differ" in w]


def test_hook_profiles_and_markers_end_layers(trainer: Trainer) -> None:
    trainer.run("python2.7 hooked.py")
    ops = trainer.get("/root/hook.json")["ops"]
    assert ops["type"].count("SentinelLayer") == 6  # three forward, three backward
    assert ops["layer"][-1] == 6
    backward = [p for p, name in enumerate(ops["name"]) if name.startswith("gradients/dense/MatMul_grad")]
    assert {ops["layer"][p] for p in backward} == {6}


def test_killed_process_leaves_nothing(trainer: Trainer, plan: str) -> None:
    arguments = json.dumps({"steps": 10000, "plans": [plan], "announce": True})
    # Kill it within its steps, however long it takes to get there
    trainer.put(
        "/root/kill.sh",
        f"exec 3< <(exec python2.7 train.py '{arguments}' 2>&1)\npid=$!\n"
        'while read -r -u 3 line; do [ "$line" = "step 5" ] && break; done\n'
        "kill -KILL $pid && while [ -e /proc/$pid ]; do sleep 0.1; done\n",
    )
    before = trainer.run("ls -A /root /tmp /dev/shm /opt/sentinel; ipcs -a")
    trainer.run("bash kill.sh")
    assert trainer.run("ls -A /root /tmp /dev/shm /opt/sentinel; ipcs -a") == before


def test_machine_with_one_node_trains(any_kernel: str, trainer: Trainer, plan: str, tmp_path: Path) -> None:
    text = trainer.run(f"cat {plan}")
    spec = machine.Machine.model_validate({"nodes": [{"memory": "2 GiB", "cpus": [0]}], "vcpus": 1})
    with vm.running("single", boot.prepare(spec, kernel=any_kernel).boot) as started:
        started.wait_ready()
        with started.shell() as shell:
            alone = Trainer(shell, tmp_path)
            assert alone.stock == trainer.stock
            profiled = alone(profiles={"1": ["/root/p.json"]}, ends=["2"])
            assert profiled["losses"] == trainer.stock
            said = alone(plans=[alone.put("/root/plan.json", text)])
            assert said["losses"] == trainer.stock
            assert said["stats"]["unbound"] == 0  # the plan places everything on node 0
            assert said["stats"]["total"]["demoted"] == 0
            assert said["stats"]["total"]["failed"] > 0
