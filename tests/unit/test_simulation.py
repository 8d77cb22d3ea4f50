# SPDX-License-Identifier: Apache-2.0
"""`sentinel simulate`: predictions of all policies from profiles, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments import policies, simulation
from experiments.policies import Needs, Policy
from experiments.profiles import Profiled, figures_of
from experiments.simulation import Simulation
from sentinel.bound import lower_bound
from sentinel.planner.formats import files, profile_json
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory import classify
from sentinel.planner.placement.ordinary import fast_shares
from sentinel.planner.policy import Mechanism
from sentinel.planner.search import make_plan
from sentinel.planner.timing.cost import estimate_costs
from testbed.common.errors import ExitCode, UsageError
from testbed.timing import preset as presets
from tests.fakes import profiles
from tests.fakes.profiles import BIG, LAYERS, MEGA, PAGE, SIMPLE, variable, written_then_read

STEP = profile_json.parse(profiles.random_value(3))
OTHER_STEP = profile_json.parse(profiles.random_value(4))
OPTANE = figures_of(presets.load("optane-6dimm"))
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "step.json.gz"
    files.write_profile(path, STEP)
    return path


def small() -> Profile:
    """A variable, a tensor written at 0 and read at 5, one written at 2 and read at 3."""
    tensors = [variable(1, 2, n=7), written_then_read(0, 5), written_then_read(2, 3)]
    return profiles.small(LAYERS, MEGA, tensors)


SIMULATED = [policy for policy in policies.registry().values() if policy.replay is None]


def simulated(path: Path, *names: str, shares: tuple[str, ...] = ("20%",)) -> Simulation:
    chosen = [policies.get(name) for name in names] or SIMULATED
    return simulation.run("x", simulation.load(path), chosen, shares, OPTANE)


def test_first_touch_gives_fast_memory_to_the_lowest_addresses() -> None:
    """The variable is at 0, the others follow in the order of their births."""
    assert fast_shares(small(), BIG // 2).tolist() == [0.5, 0, 0]
    assert fast_shares(small(), BIG).tolist() == [1, 0, 0]
    assert fast_shares(small(), 2 * BIG).tolist() == [1, 1, 0]
    assert fast_shares(small(), 9 * BIG).tolist() == [1, 1, 1]


def test_interleave_gives_every_other_page() -> None:
    assert fast_shares(small(), BIG // 2, interleave=True).tolist() == [0.5, 0, 0]
    assert fast_shares(small(), BIG, interleave=True).tolist() == [0.5, 0.5, 0]
    assert fast_shares(small(), 9 * BIG, interleave=True).tolist() == [0.5, 0.5, 0.5]


def test_tensors_reuse_addresses_and_so_their_memory() -> None:
    tensors = [written_then_read(0, 2), written_then_read(4, 6)]
    assert fast_shares(profiles.small(LAYERS, MEGA, tensors), BIG).tolist() == [1, 1]


def test_untouched_pages_take_no_fast_memory() -> None:
    step = profiles.small(LAYERS, MEGA, [written_then_read(0, 5), written_then_read(1, 4)])
    touched = step.tensors.touched.copy()
    touched[0] = PAGE
    step = dataclasses.replace(step, tensors=dataclasses.replace(step.tensors, touched=touched))
    assert fast_shares(step, 3 * PAGE).tolist() == [1, 2 * PAGE / BIG]


def test_policies_without_a_plan_save_what_is_in_fast_memory() -> None:
    profiled = Profiled(Path("x"), small(), None)
    costs = estimate_costs(profiled.profile, SIMPLE)
    step = simulation._limited(profiled, costs, BIG, interleave=False)
    variable_ns = costs.saved_ns[profiled.profile.uses.tensor == 0].sum()
    assert step.ns == pytest.approx(costs.slow_ns - variable_ns)
    assert variable_ns > 0
    all_fast = simulation._limited(profiled, costs, 9 * BIG, interleave=False)
    assert all_fast.ns == pytest.approx(costs.fast_ns)


def test_all_policies_are_within_the_bound(profile: Path) -> None:
    result = simulated(profile, shares=("20%", "60%"))
    costs = estimate_costs(STEP, OPTANE)
    by_policy = {(row.policy, row.share): row for row in result.predictions}
    assert by_policy["fast-only", ""].step_ns == pytest.approx(costs.fast_ns)
    assert by_policy["slow-only", ""].step_ns == pytest.approx(costs.slow_ns)
    assert {name for name, _ in by_policy} == {policy.name for policy in SIMULATED}
    for row in result.predictions:
        assert row.result == "simulated"
        if row.budget is not None and row.step_ns is not None:
            bound = lower_bound(STEP, row.budget, OPTANE)
            assert row.bound_ns == pytest.approx(bound.step_ns, rel=1e-3)
            assert row.gap is not None
            assert row.gap >= -1e-6
            assert row.step_ns <= costs.slow_ns * 1.001


def test_a_plan_is_predicted_as_the_planner_does(profile: Path) -> None:
    plan = make_plan(STEP, classify.peak(STEP) // 5, OPTANE, spill=True)
    (row,) = simulated(profile, "sentinel-opt").predictions
    assert row.step_ns == pytest.approx(plan.predicted["step_ns"], rel=1e-6)
    assert row.promoted_bytes + row.demoted_bytes == plan.predicted["moved_bytes"]


def test_kinds_of_a_step_add_up_and_share_the_budget(tmp_path: Path) -> None:
    steps = {"a": STEP, "b": OTHER_STEP}
    for kind, step in steps.items():
        files.write_profile(tmp_path / f"{kind}.json.gz", step)
    result = simulated(tmp_path, "fast-only", "first-touch")
    assert result.peak == max(map(classify.peak, steps.values()))
    expected = sum(estimate_costs(step, OPTANE).fast_ns for step in steps.values())
    assert result.predictions[0].step_ns == pytest.approx(expected)
    assert result.predictions[1].budget == result.peak // 5
    assert set(result.digests) == {"a", "b"}


def test_a_budget_below_the_floor_is_said_and_the_others_go_on(profile: Path) -> None:
    first, second = simulated(profile, "sentinel", shares=("1 B", "60%")).predictions
    assert first.step_ns is None
    assert first.problem.startswith("below the floor of ")
    assert second.step_ns is not None


def test_a_policy_of_unknown_placement_is_refused(profile: Path) -> None:
    policy = Policy(name="numa", description="", source="", needs=Needs(budget="none"))
    with pytest.raises(UsageError, match="policy numa cannot be simulated"):
        simulation.run("x", simulation.load(profile), [policy], ["20%"], OPTANE)


def test_the_record_says_how_it_came_about(profile: Path, sentinel_: Run) -> None:
    code, out, _ = sentinel_(
        "simulate", profile, "--policy", "fast-only,first-touch", "--fast-memory", "10,20%", "--json"
    )
    record = json.loads(out)
    assert code == 0
    assert (record["format"], record["result"], record["preset"]) == (
        "sentinel-simulation",
        "simulated",
        "optane-6dimm",
    )
    (one,) = record["simulations"]
    assert one["digests"] == {profile.name: files.digest(profile)}
    assert [(row["policy"], row["share"]) for row in one["predictions"]] == [
        ("fast-only", ""),
        ("first-touch", "10%"),
        ("first-touch", "20%"),
    ]
    assert one["predictions"][0]["relative_time"] == 1


def test_plans_migrate_by_the_mechanism_and_have_its_bound(profile: Path, sentinel_: Run) -> None:
    words = ("--policy", "sentinel,sentinel-opt", "--fast-memory", "60%", "--json")
    four = figures_of(presets.load("optane-6dimm"), helpers=4)
    budget = int(0.6 * classify.peak(STEP))
    code, out, _ = sentinel_("simulate", profile, *words, "--mechanism", "frames", "--migration-cores", "4")
    assert code == 0
    document = json.loads(out)
    assert document["figures"]["helpers"] == 4
    bounds = {row["policy"]: row["bound_ns"] for row in document["simulations"][0]["predictions"]}
    mechanisms: dict[str, Mechanism] = {"sentinel": "move_pages", "sentinel-opt": "frames"}
    for policy, mechanism in mechanisms.items():
        assert bounds[policy] == pytest.approx(lower_bound(STEP, budget, four, mechanism=mechanism).step_ns)


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_every_row_is_marked_as_simulated(profile: Path, sentinel_: Run, form: str) -> None:
    words = ("--policy", "fast-only,interleave", "--fast-memory", "20%", "--format", form)
    code, out, _ = sentinel_("simulate", profile, *words)
    assert code == 0
    lines = [line for line in out.splitlines() if "fast-only " in line or "interleave" in line]
    assert len([line for line in lines if "simulated" in line]) >= 2
    assert "simulated, not measured" in out


def test_the_cache_is_an_option(profile: Path) -> None:
    step = STEP
    step = dataclasses.replace(step, counts="ops")
    small_cache = estimate_costs(step, OPTANE)
    large_cache = estimate_costs(step, dataclasses.replace(OPTANE, cache_bytes=1 << 30))
    assert np.sum(large_cache.saved_ns) < np.sum(small_cache.saved_ns)


def test_a_plan_of_another_step_or_machine_is_refused(tmp_path: Path, profile: Path, sentinel_: Run) -> None:
    step = small()
    other = tmp_path / "other.plan.json"
    files.write_plan(other, make_plan(step, classify.peak(step), OPTANE))
    code, _, err = sentinel_("simulate", profile, "--policy", "fast-only", "--plan", other)
    assert code == ExitCode.USAGE
    assert f"error: {other}: " in err
    own = tmp_path / "own.plan.json"
    files.write_plan(own, make_plan(STEP, classify.peak(STEP), OPTANE))
    assert sentinel_("simulate", profile, "--policy", "fast-only", "--plan", own)[0] == 0
    code, _, err = sentinel_(
        "simulate", profile, "--policy", "fast-only", "--plan", own, "--preset", "cxl-asic"
    )
    assert code == ExitCode.USAGE
    assert "was made with other figures of the machine" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--policy", "ial"), "policy ial exists in replays only"),
        (("--policy", "best"), "unknown policy 'best'; there are: all, autotm"),
        (("--cache", "3"), "--cache: must be a size such as 512 MiB"),
        (("--fast-memory", "20 percent"), "budget: must be a size"),
        (("--preset", "none"), "unknown preset 'none'"),
    ],
)
def test_wrong_options_are_one_line(
    profile: Path, sentinel_: Run, words: tuple[str, ...], message: str
) -> None:
    code, out, err = sentinel_("simulate", profile, *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert message in err


def test_wrong_profiles_are_one_line(tmp_path: Path, profile: Path, sentinel_: Run) -> None:
    code, _, err = sentinel_("simulate", tmp_path)
    assert (code, "has no profiles" in err) == (ExitCode.USAGE, True)
    broken = tmp_path / "broken.json.gz"
    broken.write_bytes(profile.read_bytes()[:1000])
    code, _, err = sentinel_("simulate", broken)
    assert (code, "is damaged or incomplete" in err) == (ExitCode.USAGE, True)
    code, _, err = sentinel_("simulate", profile, profile, "--fast-step-ns", "5")
    assert (code, "--fast-step-ns is for one PROFILE" in err) == (ExitCode.USAGE, True)
