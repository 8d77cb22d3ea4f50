# SPDX-License-Identifier: Apache-2.0
"""The runtime in a real guest: TensorFlow trains on it, and losses stay identical bit for bit."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from experiments import boot
from sentinel.runtime import build
from testbed import machine, vm
from testbed.vm import Vm
from tests import hand_plan
from tests.vm.training import STEPS, Json, Trainer


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


def test_pages_discarded_during_a_move_are_not_failures(training_guest: Vm, tmp_path: Path) -> None:
    program, here = tmp_path / "release-while-moving", Path(__file__).parent
    flags = ["-std=c++14", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", f"-I{build.SOURCES}"]
    sources = [here / "release_while_moving.cc", build.SOURCES / "core" / "memory.cc"]
    subprocess.run(["g++", *flags, *sources, "-o", program], check=True)
    with training_guest.shell() as shell:
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
    planned = json.loads(trainer.run(f"cat {plan}"))
    assert sorted(move["move"] for move in stats["moves"]) == list(range(len(planned["moves"])))
    moved = [move for move in stats["moves"] if move["outcome"] == "moved"]
    assert moved
    assert all(move["ready_ns"] <= move["begin_ns"] <= move["end_ns"] for move in moved)
    pools = stats["pools"]
    tensors = planned["tensors"]
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
    assert said["errors"][0].startswith("RuntimeUnavailable: too late: TensorFlow has already")


def test_early_load_is_refused_with_a_reason(trainer: Trainer) -> None:
    library_path = "LD_LIBRARY_PATH=/usr/local/lib/python2.7/dist-packages/tensorflow"
    preloaded = f"{library_path} LD_PRELOAD=/opt/sentinel/{build.NAME}"
    said = trainer.run(f"{preloaded} python2.7 -c 'import tensorflow'", check=False)
    assert "sentinel: LD_PRELOAD loads the runtime too early" in said
    said = trainer.run(
        f"{preloaded} python2.7 -c 'from guest.bindings import runtime; runtime.load()'", check=False
    )
    assert "is in LD_PRELOAD, which is too early" in said


def test_killed_process_leaves_nothing(trainer: Trainer, plan: str) -> None:
    arguments = json.dumps({"steps": 10000, "plans": [plan], "announce": True})
    # Kill it within its steps, however long it takes to get there
    trainer.put(
        "/root/kill.sh",
        f"exec 3< <(exec python2.7 scripts/runtime/train.py '{arguments}' 2>&1)\npid=$!\n"
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
