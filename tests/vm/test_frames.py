# SPDX-License-Identifier: Apache-2.0
"""Groups migrate by frames in a real guest: TensorFlow trains on windows, and losses stay identical."""

from __future__ import annotations

import json

import pytest

from tests import hand_plan
from tests.vm.training import STEPS, Json, Trainer


@pytest.fixture(scope="module")
def frames(trainer: Trainer) -> Json:
    """A plan that demotes and promotes every group between all of its uses."""
    said = trainer(profiles={"1": ["/root/frames-profile.json"]}, ends=["2"])
    assert said["errors"] == []
    profile = trainer.get("/root/frames-profile.json")
    return hand_plan.with_frames(hand_plan.make(profile), profile)


@pytest.fixture(scope="module")
def plan(trainer: Trainer, frames: Json) -> str:
    return trainer.put("/root/frames.json", json.dumps(frames))


def test_losses_stay_when_everything_moves(trainer: Trainer, frames: Json, plan: str) -> None:
    said = trainer(plans=[plan])
    assert said["errors"] == []
    assert said["losses"] == trainer.stock
    stats = said["stats"]
    assert (stats["planned"], stats["planned_steps"], stats["reprofile"]) == (True, STEPS, False)
    assert (stats["frames"], stats["over_budget"]) == (frames["frames"], 0)
    total = stats["total"]
    assert [total[name] for name in ("unplanned", "busy", "crowded", "failed")] == [0, 0, 0, 0]
    assert total["promoted"] > 1 << 20
    assert total["demoted"] > 1 << 20
    assert total["copied"] >= total["promoted"]
    by_frames = [frames["moves"][move["move"]].get("tensor") is None for move in stats["moves"]]
    outcomes = {(move["outcome"], frame) for move, frame in zip(stats["moves"], by_frames, strict=True)}
    assert {outcome for outcome, frame in outcomes if frame} <= {"moved", "resident", "cancelled"}
    assert {outcome for outcome, frame in outcomes if not frame} <= {"moved", "cancelled", "none"}
    # All memory of groups, whether they live or not: the pool on node 0, the homes on node 1
    homes = sum(group["size"] for group in frames["groups"] if not group["keep"])
    assert stats["pools"]["arena"]["resident"] == [frames["frames"], homes]


def test_losses_of_two_threads_are_close(trainer: Trainer, plan: str) -> None:
    said = trainer(threads=2, plans=[plan])
    assert said["errors"] == []
    assert [float.fromhex(x) for x in said["losses"]] == pytest.approx(
        [float.fromhex(x) for x in trainer.stock], rel=1e-3
    )


def test_no_operation_writes_to_a_group_while_it_is_copied(trainer: Trainer, plan: str) -> None:
    arguments = json.dumps({"steps": STEPS, "plans": [plan]})
    output = trainer.run(
        f"env SENTINEL_CHECK_FRAMES=1 python2.7 scripts/runtime/train.py '{arguments}'", timeout=1800
    )
    assert "writes to a group" not in output
    assert json.loads(output.strip().splitlines()[-1])["losses"] == trainer.stock


def test_groups_use_move_pages_where_files_of_memory_are_refused(trainer: Trainer, plan: str) -> None:
    said = trainer(plans=[plan], forbid=[319])  # memfd_create
    assert said["losses"] == trainer.stock
    message = "sentinel: cannot migrate by frames (memfd_create: Operation not permitted)"
    assert [line[: len(message)] for line in said["messages"]].count(message) == 1
    assert said["stats"]["frames"] == 0
    assert said["stats"]["total"]["promoted"] > 1 << 20
