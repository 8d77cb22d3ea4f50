# SPDX-License-Identifier: Apache-2.0
"""The runtime in a real guest: TensorFlow trains on it, and not one bit of a loss is another."""

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
# Trains cnn as {"steps": n, ...} in argv says, and prints what came of it as its last line
TRAIN = """
import contextlib, ctypes, json, os, resource, struct, sys, warnings
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
warnings.filterwarnings("ignore")
import numpy, tensorflow as tf
from guest.bindings import runtime
from guest.models import cnn
tf.logging.set_verbosity(tf.logging.ERROR)
asked = json.loads(sys.argv[1])
said = {"losses": [], "errors": [], "resident": [], "descriptors": []}

def tried(function, *arguments):
    try:
        return function(*arguments)
    except Exception as e:
        said["errors"].append("%s: %s" % (type(e).__name__, e))

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096

# The system refuses these calls (as a container's does) with EPERM: a filter by seccomp
def forbid(*calls):
    code = struct.pack("HBBI", 0x20, 0, 0, 0)
    for n, call in enumerate(calls):
        code += struct.pack("HBBI", 0x15, len(calls) - 1 - n, 1 if n == len(calls) - 1 else 0, call)
    code += struct.pack("HBBI", 0x06, 0, 0, 0x50001) + struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0

# Takes half of node 0's memory, and has the system keep more than the rest of it free, on either node
def fill():
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_long] * 4
    size, mask = 1 << 30, ctypes.c_ulong(1)
    start = libc.mmap(None, size, 3, 0x22, -1, 0)
    place = [ctypes.c_void_p(start), ctypes.c_size_t(size), 1, ctypes.byref(mask), ctypes.c_ulong(65), 0]
    libc.syscall(237, *place)  # mbind: node 0 is preferred
    libc.mlock(ctypes.c_void_p(start), ctypes.c_size_t(size))
    return set_free(1600000)

def set_free(kilobytes):
    with open("/proc/sys/vm/min_free_kbytes", "r+") as f:
        before = int(f.read())
        f.seek(0)
        f.write(str(kilobytes))
    return before

if asked.get("forbid"):
    forbid(*asked["forbid"])
config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=asked.get("threads", 1))
if asked.get("late"):
    tf.Session(config=config).close()
if asked.get("runtime", True):
    tried(runtime.load)
tf.set_random_seed(1)
inputs, train, loss = cnn.build(8)
data = numpy.random.RandomState(1)
feed = {placeholder: make(data) for placeholder, make in inputs}
with tf.Session(config=config) as session:
    session.run(tf.global_variables_initializer())
    if asked.get("fill"):
        free = fill()
    for plan in asked.get("plans", []):
        tried(runtime.load_plan, plan)
    for step in range(asked["steps"]):
        if asked.get("tell"):
            print("step %d" % step)
            sys.stdout.flush()
        for path in asked.get("profiles", {}).get(str(step), []):
            runtime.start_profile(path)
        with runtime.step() if runtime.loaded() else open(os.devnull):
            said["losses"].append(float(session.run([train, loss], feed)[1]).hex())
        if str(step) in asked.get("ends", []):
            runtime.end_profile()
        if asked.get("watch") and step % asked["watch"] == 0:
            said["resident"].append(resident())
            said["descriptors"].append(len(os.listdir("/proc/self/fd")))
    if runtime.loaded():
        said["stats"] = runtime.stats()
    if asked.get("fill"):
        set_free(free)
print(json.dumps(said))
"""
# A script that knows nothing of the runtime
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
# Two lines for the runtime, and layers marked
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
# Runs a script under guest.wrap, and says what tensors took of node 0 at most after any step
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
    """A guest with the runtime in it, and processes that train there."""

    def __init__(self, shell: Shell, scratch: Path) -> None:
        self._shell, self._scratch = shell, scratch
        guest_code.deploy(shell)
        shell.put(build.build(), f"/opt/sentinel/{build.NAME}")
        shell.put(SCRIPTS, "/root/scripts")
        texts = (("train", TRAIN), ("untouched", UNTOUCHED), ("hooked", HOOKED), ("watched", WATCHED))
        for name, text in texts:
            self.put(f"/root/{name}.py", text)
        self.stock = self(runtime=False)["losses"]

    def __call__(self, steps: int = STEPS, **asked: object) -> Json:
        arguments = json.dumps({"steps": steps, **asked})
        # A step takes half a second on a quiet host; this is only to tell a hang from a busy one.
        said = self.run(f"python2.7 /root/train.py '{arguments}'", timeout=600 + 60 * steps)
        lines = said.strip().splitlines()
        result: Json = json.loads(lines[-1])
        return {**result, "said": [line for line in lines if line.startswith("sentinel: ")]}

    def run(self, command: str, *, check: bool = True, timeout: float = 1800) -> str:
        """Everything that a command says."""
        done = self._shell.run(
            f"cd /root && PYTHONPATH=/opt/sentinel {command} 2>&1", check=check, timeout=timeout
        )
        return done.out

    def plan(self, profile: str, budget: str) -> Json:
        """The planner's plan of a profile in the guest, which is put beside it."""
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
    """What a process said that profiled steps 1, 2 and 4, 5."""
    paths = {"1": ["/root/first.json"], "4": ["/root/second.json.gz"]}
    return trainer(profiles=paths, ends=["2", "5"])


@pytest.fixture(scope="module")
def profiles(trainer: Trainer, profiling: Json) -> tuple[Json, Json]:
    assert profiling["errors"] == []
    return trainer.get("/root/first.json"), trainer.get("/root/second.json.gz")


@pytest.fixture(scope="module")
def plan(trainer: Trainer, profiles: tuple[Json, Json]) -> str:
    """The path of a plan that moves everything back and forth."""
    return trainer.put("/root/plan.json", json.dumps(hand_plan.make(profiles[0])))


def test_unmanaged_losses_are_those_of_stock_tensorflow(trainer: Trainer) -> None:
    said = trainer()
    assert said["losses"] == trainer.stock
    assert len(set(trainer.stock)) == STEPS  # it does train
    assert said["stats"]["live"] < said["stats"]["peak"]
    assert said["stats"]["steps"] == STEPS


def test_profiled_losses_are_those_of_stock_tensorflow(trainer: Trainer, profiling: Json) -> None:
    assert profiling["losses"] == trainer.stock


def test_a_profile_has_all_of_the_step(profiles: tuple[Json, Json]) -> None:
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
        # What computes takes something, and makes something
        used = {position for t in profile["tensors"] for position, _, _ in t["uses"]}
        computing = {"_FusedConv2D", "MaxPool", "MatMul", "Conv2DBackpropInput", "ApplyMomentum"}
        assert {p for p in range(count) if ops["type"][p] in computing} <= used
        # All of a large tensor is written, by the kernel's counts as well
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


def test_two_profiles_have_the_same_tensors(profiles: tuple[Json, Json]) -> None:
    first, second = profiles
    assert first["graph"] == second["graph"]
    assert keys(first) == keys(second)
    assert max(keys(first).values()) == 1


def test_pages_that_are_given_back_while_they_move_are_no_failures(guest: Vm, tmp_path: Path) -> None:
    program, here = tmp_path / "given-back", Path(__file__).parent
    flags = ["-std=c++14", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", f"-I{build.SOURCES}"]
    sources = [here / "release_while_moving.cc", build.SOURCES / "core" / "memory.cc"]
    subprocess.run(["g++", *flags, *sources, "-o", program], check=True)
    with guest.shell() as shell:
        shell.put(program, "/root/given-back")
        moved, absent, failed = map(int, shell.run("/root/given-back", timeout=1800).out.split())
    assert min(moved, absent) > 100  # both do happen
    # The kernel may stop at such a page, and leave those after it
    assert failed <= (moved + absent + failed) / 300


def test_a_plan_that_moves_everything_changes_no_loss(trainer: Trainer, plan: str) -> None:
    said = trainer(plans=[plan])
    assert said["errors"] == []
    assert said["losses"] == trainer.stock
    stats = said["stats"]
    assert (stats["planned"], stats["planned_steps"], stats["reprofile"]) == (True, STEPS, False)
    total = stats["total"]
    assert (total["unplanned"], total["busy"]) == (0, 0)
    assert total["promoted"] > 1 << 20
    assert total["demoted"] > 1 << 20
    # On a host with much else to do a page may be in somebody's hands for both tries.
    assert total["failed"] <= (total["promoted"] + total["demoted"]) / 100
    pools = stats["pools"]
    wanted = json.loads(trainer.run(f"cat {plan}"))["tensors"]
    assert pools["arena"]["allocations"] == STEPS * sum(t["pool"] == "long" and "op" in t for t in wanted)
    assert pools["reserved"]["allocations"] == STEPS * sum(t["pool"] == "short" for t in wanted)
    # Between steps nothing of the plan's lives, and its pages are back; the reserved pool keeps its own.
    assert pools["arena"]["live"] == 0
    assert pools["arena"]["resident"] == [0, 0]
    assert pools["reserved"]["resident"][0] > 0
    assert pools["reserved"]["resident"][1] == 0


def test_two_threads_compute_the_same_losses(trainer: Trainer, plan: str) -> None:
    said = trainer(threads=2, plans=[plan])
    assert [float.fromhex(x) for x in said["losses"]] == pytest.approx(
        [float.fromhex(x) for x in trainer.stock], rel=1e-3
    )


def assert_nothing_grows(said: Json) -> None:
    """A process has no more at its end than after a quarter of its steps."""
    resident, quarter = said["resident"], len(said["resident"]) // 4 + 1
    assert resident[-1] - max(resident[:quarter]) < 1 << 20, resident
    assert said["descriptors"][-1] <= max(said["descriptors"][:quarter]), said["descriptors"]


def test_nothing_grows_in_200_steps(trainer: Trainer, plan: str) -> None:
    said = trainer(200, plans=[plan], watch=10)
    assert_nothing_grows(said)
    assert said["losses"][:STEPS] == trainer.stock


def test_nothing_grows_in_2000_steps(request: pytest.FixtureRequest, trainer: Trainer, plan: str) -> None:
    if not request.config.getoption("--slow"):
        pytest.skip("trains for twenty minutes; run with --slow")
    assert_nothing_grows(trainer(2000, watch=50))
    assert_nothing_grows(trainer(2000, plans=[plan], watch=50))


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ((237, 279), "sentinel: memory cannot be placed (mbind: Operation not permitted)"),
        ((279,), "sentinel: no page could be moved (move_pages: Operation not permitted)"),
    ],
)
def test_without_permission_training_goes_on(
    trainer: Trainer, plan: str, calls: tuple[int, ...], said: str
) -> None:
    got = trainer(plans=[plan], forbid=calls)
    assert got["losses"] == trainer.stock
    assert [line[: len(said)] for line in got["said"]].count(said) == 1
    assert got["stats"]["total"]["promoted"] == got["stats"]["total"]["demoted"] == 0
    assert got["stats"]["total"]["failed"] > 0


def test_a_fast_node_with_less_room_than_promised(trainer: Trainer, plan: str) -> None:
    got = trainer(plans=[plan], fill=True)
    assert got["losses"] == trainer.stock
    pools = got["stats"]["pools"]
    assert pools["reserved"]["resident"][1] > 0  # what had no room on node 0
    assert got["stats"]["planned"] is True


def test_bad_plans_are_one_line_each_and_training_goes_on(trainer: Trainer, plan: str) -> None:
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


def test_steps_of_another_graph_keep_to_the_plans_budget(trainer: Trainer, plan: str) -> None:
    other = trainer.put(
        "/root/other.json", json.dumps({**json.loads(trainer.run(f"cat {plan}")), "graph": "0" * 64})
    )
    said = trainer(plans=[other])
    assert said["losses"] == trainer.stock
    stats = said["stats"]
    assert (stats["planned_steps"], stats["other_steps"], stats["reprofile"]) == (0, STEPS, True)
    # Tensors outside the plan are in slow memory; constants of the plan are where it says, by the page
    small = sum("name" in t and t["size"] < 4096 for t in json.loads(trainer.run(f"cat {plan}"))["tensors"])
    assert stats["pools"]["unplanned"]["resident"][0] <= 4096 * small


def test_loading_too_late_is_explained(trainer: Trainer) -> None:
    said = trainer(late=True)
    assert said["losses"] == trainer.stock
    assert said["errors"][0].startswith("RuntimeUnavailable: too late: TensorFlow has allocated memory")


def test_loading_too_early_is_explained(trainer: Trainer) -> None:
    found = "LD_LIBRARY_PATH=/usr/local/lib/python2.7/dist-packages/tensorflow"
    preloaded = f"{found} LD_PRELOAD=/opt/sentinel/{build.NAME}"
    said = trainer.run(f"{preloaded} python2.7 -c 'import tensorflow'", check=False)
    assert "sentinel: loaded by LD_PRELOAD, which is too early" in said
    said = trainer.run(
        f"{preloaded} python2.7 -c 'from guest.bindings import runtime; runtime.load()'", check=False
    )
    assert "is in LD_PRELOAD, which is too early" in said


def test_an_untouched_script_is_profiled_and_planned(trainer: Trainer) -> None:
    wrapped = "python2.7 -m guest.wrap --stats /root/stats.json"
    first = trainer.run(f"{wrapped} --profile /root/wrapped.json --skip 2 untouched.py 5")
    assert first.split() == trainer.stock[:5]
    profile = trainer.get("/root/wrapped.json")
    assert profile["ops"]["type"].count("ApplyMomentum") == 6  # not of the runs that do not train
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
def test_scripts_keep_to_a_plan_and_its_budget(
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
def test_scripts_of_all_kinds_go_on(
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


def test_graphs_are_let_go(trainer: Trainer) -> None:
    assert "GRAPHS ALIVE 0 of 5" in trainer.run("python2.7 scripts/many_graphs.py")
    assert "GRAPHS ALIVE 0 of 5" in trainer.run("python2.7 -m guest.wrap scripts/many_graphs.py")


def test_runs_that_fail_are_no_steps(trainer: Trainer) -> None:
    said = trainer.run("python2.7 scripts/failing_runs.py")
    assert said.count("LOSS") == 18
    profile = trainer.get("/root/failing.json")
    assert profile["ops"]["type"].count("ApplyGradientDescent") == 4
    assert not [w for w in profile["warnings"] if "differ" in w]


def test_a_hook_profiles_and_markers_are_layers(trainer: Trainer) -> None:
    trainer.run("python2.7 hooked.py")
    ops = trainer.get("/root/hook.json")["ops"]
    assert ops["type"].count("SentinelLayer") == 6  # three forward, three backward
    assert ops["layer"][-1] == 6
    backward = [p for p, name in enumerate(ops["name"]) if name.startswith("gradients/dense/MatMul_grad")]
    assert {ops["layer"][p] for p in backward} == {6}


def test_a_killed_process_leaves_nothing(trainer: Trainer, plan: str) -> None:
    arguments = json.dumps({"steps": 10000, "plans": [plan], "tell": True})
    # In the midst of its steps, however long it takes to get there
    trainer.put(
        "/root/kill.sh",
        f"exec 3< <(exec python2.7 train.py '{arguments}' 2>&1)\npid=$!\n"
        'while read -r -u 3 line; do [ "$line" = "step 5" ] && break; done\n'
        "kill -KILL $pid && while [ -e /proc/$pid ]; do sleep 0.1; done\n",
    )
    before = trainer.run("ls -A /root /tmp /dev/shm /opt/sentinel; ipcs -a")
    trainer.run("bash kill.sh")
    assert trainer.run("ls -A /root /tmp /dev/shm /opt/sentinel; ipcs -a") == before


def test_a_machine_with_one_node_trains(any_kernel: str, trainer: Trainer, plan: str, tmp_path: Path) -> None:
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
            assert said["stats"]["unbound"] == 0  # the plan wants node 0 everywhere
            assert said["stats"]["total"]["demoted"] == 0
            assert said["stats"]["total"]["failed"] > 0
