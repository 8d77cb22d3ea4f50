# SPDX-License-Identifier: Apache-2.0
"""`sentinel plan`, `sentinel explain`, and the planner's own program in the guest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sentinel.planner
from experiments.profiles import figures_of
from sentinel.planner.check import check
from sentinel.planner.formats import figures, files
from sentinel.planner.memory import classify
from sentinel.planner.search import make_plan
from sentinel.planner.simulate import simulate
from testbed.common.errors import ExitCode
from testbed.timing import preset as presets
from tests.fakes import networks, profiles
from tests.fakes.access_traces import Recording

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "step.json.gz"
    files.write_profile(path, networks.resnet())
    return path


@pytest.fixture
def plan(profile: Path, sentinel_: Run) -> Path:
    code, _, err = sentinel_("plan", profile, "--budget", "20%", "--preset", "optane-6dimm")
    assert (code, err) == (0, f"wrote the plan to {profile.with_name('step.plan.json')}\n")
    return profile.with_name("step.plan.json")


def test_plan_is_sound_and_records_its_inputs(profile: Path, plan: Path) -> None:
    written, step = files.read_plan(plan), files.read_profile(profile)
    assert check(step, written) == []
    assert written.budget == classify.peak(step) // 5
    assert written.made["profile"] == files.digest(profile)
    assert written.made["policy"] == "sentinel-opt"
    assert figures.parse(written.made["figures"]) == figures_of(presets.load("optane-6dimm"))


def test_plan_is_shown_as_table_or_json(tmp_path: Path, profile: Path, sentinel_: Run) -> None:
    words = ("plan", profile, "--budget", "4 MiB", "--preset", "cxl-asic", "--fast-step-ns", "12e6")
    code, out, _ = sentinel_(*words, "-o", tmp_path / "a.json.gz")
    assert code == 0
    assert "4 MiB, of which 912 KiB reserved pool" in out
    code, out, _ = sentinel_(*words, "-o", tmp_path / "b.json.gz", "--json")
    assert json.loads(out)["predicted"]["fast_ns"] == pytest.approx(12e6, rel=1e-3)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_figures_come_from_the_preset() -> None:
    preset = presets.load("optane-6dimm")
    machine = figures_of(preset)
    assert (machine.nodes[1].read_latency, machine.nodes[1].write_bandwidth) == (305, 13.9)
    assert (machine.line_bytes, machine.cache_bytes, machine.page_move_ns) == (64, 1 << 20, 1500)
    assert (machine.compute_mlp, machine.migration_mlp) == (240, 10)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget", "1%", "--preset", "cxl-asic"), "error: the budget of 148714 bytes is below the floor"),
        (("--budget", "much", "--preset", "cxl-asic"), "error: budget: must be a size such as 14 MiB"),
        (("--budget", "20%", "--preset", "none"), "error: unknown preset 'none'"),
    ],
)
def test_invalid_inputs_are_usage_errors(
    profile: Path, sentinel_: Run, words: tuple[str, ...], message: str
) -> None:
    code, out, err = sentinel_("plan", profile, *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith(message)
    assert list(profile.parent.iterdir()) == [profile]


def test_hint_names_the_floor(profile: Path, sentinel_: Run) -> None:
    words = ("plan", profile, "--preset", "cxl-asic", "--budget")
    hint = sentinel_(*words, "1%")[2].splitlines()[1]
    floor = hint.removeprefix(" hint: use --budget ").partition(" ")[0]
    assert sentinel_(*words, str(int(floor) - 1))[0] == ExitCode.USAGE
    assert sentinel_(*words, floor)[0] == 0
    assert sentinel_(*words, str(int(floor) - 1), "--spill")[0] == 0


def test_explain_shows_a_profile(profile: Path, sentinel_: Run) -> None:
    code, out, _ = sentinel_("explain", profile)
    assert code == 0
    assert "357 in 40 layers" in out
    assert "short     below a page" in out
    step = json.loads(sentinel_("explain", profile, "--json")[1])["profile"]
    assert step["tensors"] == sum(row["tensors"] for row in step["classes"]) == 1463
    assert sum(row["of_accesses"] for row in step["classes"]) == pytest.approx(1)
    shares = [row["of_accesses"] for row in step["hottest"]]
    assert shares == sorted(shares)
    assert all(row["of_accesses"] >= 0.9 * row["of_bytes"] for row in step["hottest"])


def test_explain_shows_a_plan_with_or_without_its_profile(profile: Path, plan: Path, sentinel_: Run) -> None:
    alone = sentinel_("explain", plan)[1]
    assert {"paper", "static"} <= set(alone.split())
    both = sentinel_("explain", plan, "--profile", profile)[1]
    assert both.endswith(alone)
    assert set(json.loads(sentinel_("explain", plan, "--profile", profile, "--json")[1])) == {
        "profile",
        "plan",
    }


def test_plots_depend_on_the_given_files(tmp_path: Path, profile: Path, plan: Path, sentinel_: Run) -> None:
    for words, names in (
        ((profile,), {"lifetimes", "accesses", "memory"}),
        ((plan,), {"candidates"}),
        ((plan, "--profile", profile), {"lifetimes", "accesses", "memory", "migrations", "candidates"}),
    ):
        folder = tmp_path / str(len(names))
        code, _, err = sentinel_("explain", *words, "--plots", folder)
        assert code == 0, err
        assert {path.name for path in folder.iterdir()} == {f"{n}.{s}" for n in names for s in ("png", "svg")}
        assert all((folder / f"{n}.png").read_bytes().startswith(b"\x89PNG") for n in names)


def test_equal_plans_give_equal_plots(tmp_path: Path, plan: Path, sentinel_: Run) -> None:
    for folder in ("a", "b"):
        assert sentinel_("explain", plan, "--plots", tmp_path / folder)[0] == 0
    for name in ("candidates.svg", "candidates.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_explain_handles_a_profile_without_tensors(tmp_path: Path, sentinel_: Run) -> None:
    path = tmp_path / "empty.json"
    files.write_profile(path, profiles.small([0, 1], [5, 5], []))
    assert sentinel_("plan", path, "--budget", "1 MiB", "--preset", "cxl-asic")[0] == 0
    code, _, err = sentinel_(
        "explain", tmp_path / "empty.plan.json", "--profile", path, "--plots", tmp_path / "plots"
    )
    assert code == 0, err


def test_explain_handles_a_plan_from_another_source(
    tmp_path: Path, profile: Path, plan: Path, sentinel_: Run
) -> None:
    value = json.loads(plan.read_text())
    value["predicted"] = {name: value["predicted"][name] for name in ("step_ns", "moved_bytes", "exposed_ns")}
    value["made"] = {"figures": {}}
    plan.write_text(json.dumps(value))
    assert sentinel_("explain", plan, "--profile", profile)[0] == 0
    code, _, err = sentinel_("explain", plan, "--profile", profile, "--plots", tmp_path / "plots")
    assert code == ExitCode.USAGE
    assert err.endswith("error: the plan's made.figures: format: is missing\n")


def test_explain_refuses_the_profile_of_another_plan(tmp_path: Path, plan: Path, sentinel_: Run) -> None:
    other = tmp_path / "other.json"
    files.write_profile(other, networks.lstm())
    code, out, err = sentinel_("explain", plan, "--profile", other)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "graph: the plan is for another graph than the profile" in err
    code, _, err = sentinel_("explain", other, "--profile", other)
    assert code == ExitCode.USAGE
    assert "--profile needs a PLAN" in err


def test_unreadable_and_unwritable_files_are_usage_errors(
    tmp_path: Path, profile: Path, sentinel_: Run
) -> None:
    (tmp_path / "x").write_bytes(profile.read_bytes()[:500])
    for path, message in (
        (tmp_path / "x", "is damaged or incomplete"),
        (tmp_path / "none", "cannot be read"),
    ):
        code, _, err = sentinel_("explain", path)
        assert code == ExitCode.USAGE
        assert f"error: {path}: {message}" in err
    (tmp_path / "plots").write_text("in the way")
    code, _, err = sentinel_("explain", profile, "--plots", tmp_path / "plots")
    assert code == ExitCode.USAGE
    assert "cannot be written" in err


def test_simulation_agrees_with_the_prediction() -> None:
    """From the plan alone, the simulated step takes as long as predicted, and stays within the budget."""
    for step, share in ((networks.resnet(), 0.2), (networks.resnet(), 0.6), (networks.lstm(), 0.5)):
        plan = make_plan(
            step,
            int(share * classify.peak(step)),
            figures_of(presets.load("optane-6dimm")),
            fast_step_ns=step.step_ns / 3,
        )
        simulation = simulate(step, plan)
        assert round(simulation.timeline.step_ns) == plan.predicted["step_ns"]
        assert round(simulation.timeline.exposed_ns) == plan.predicted["exposed_ns"]
        assert (simulation.memory["fast"] + simulation.memory["reserved"] <= plan.budget).all()
        living = classify.live_bytes(step, step.tensors.size)
        assert (sum(simulation.memory.values(), np.zeros(1, dtype=np.int64)) >= living).all()
        assert all((part >= 0).all() for part in simulation.memory.values())


def test_program_in_the_guest_makes_the_same_plan(tmp_path: Path, profile: Path) -> None:
    """Run the package as a top-level one from its own folder, as in the guest."""
    shutil.copytree(Path(sentinel.planner.__file__).parent, tmp_path / "planner")
    (tmp_path / "figures.json").write_text(
        json.dumps(figures.encode(figures_of(presets.load("optane-6dimm"))))
    )

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", "import sys; sys.path.insert(0, '.'); import runpy; "
                   "runpy.run_module('planner', run_name='__main__', alter_sys=True)", *words]  # fmt: skip
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    words = (str(profile), "--figures", "figures.json", "-o", "plan.json", "--budget")
    done = run(*words, "20%")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    step = files.read_profile(profile)
    assert files.read_plan(tmp_path / "plan.json") == make_plan(
        step,
        classify.peak(step) // 5,
        files.read_figures(tmp_path / "figures.json"),
        source=files.digest(profile),
    )
    done = run(*words, "1%")
    assert done.returncode == 2
    assert done.stderr.startswith("planner: the budget of 148714 bytes is below the floor")
    assert done.stderr.count("\n") == 1


def test_bound_lists_budgets(profile: Path, sentinel_: Run) -> None:
    words = ("--fast-memory", "20,60%", "--preset", "optane-6dimm")
    code, out, err = sentinel_("bound", profile, *words, "--json")
    assert (code, err) == (0, "")
    low, high = json.loads(out)
    peak = classify.peak(files.read_profile(profile))
    assert [low["budget"], high["budget"]] == [peak // 5, int(0.6 * peak)]
    assert low["fast_ns"] <= high["step_ns"] <= low["step_ns"] <= low["slow_ns"]
    assert low["fraction"] == pytest.approx(low["fast_ns"] / low["step_ns"], rel=1e-6)
    code, out, err = sentinel_("bound", profile, *words)
    assert (code, err) == (0, "")
    assert "of fast-only" in out


def test_bound_compares_a_plan(profile: Path, plan: Path, sentinel_: Run) -> None:
    code, out, _ = sentinel_("bound", profile, "--plan", plan, "--json")
    (row,) = json.loads(out)
    written = files.read_plan(plan)
    assert code == 0
    assert row["plan_step_ns"] == written.predicted["step_ns"]
    assert row["step_ns"] == written.predicted["bound_ns"] <= row["plan_step_ns"]
    assert row["gap"] == pytest.approx(row["plan_step_ns"] / row["step_ns"] - 1, rel=1e-6)
    _, out, _ = sentinel_("explain", plan)
    assert "the plan has" in out


def test_a_plan_with_frames_has_their_bound(profile: Path, tmp_path: Path, sentinel_: Run) -> None:
    path = tmp_path / "frames.plan.json"
    words = ("--preset", "optane-6dimm", "--mechanism", "frames", "--migration-cores", 4)
    code, out, _ = sentinel_("plan", profile, "--budget", "40%", *words, "-o", path)
    assert code == 0
    assert "of its speed" in out
    written = files.read_plan(path)
    _, out, _ = sentinel_("bound", profile, "--fast-memory", "40%", *words, "--json")
    (row,) = json.loads(out)
    assert row["step_ns"] == written.predicted["bound_ns"]


def test_bound_of_a_trace_has_its_exact_costs(tmp_path: Path, sentinel_: Run) -> None:
    recording = Recording()
    recording.step()
    path = recording.write(tmp_path)
    words = ("--fast-memory", "1 MiB,2 MiB", "--preset", "optane-6dimm", "--json")
    code, out, _ = sentinel_("bound", path, *words)
    assert code == 0
    tight, ample = json.loads(out)
    _, out, _ = sentinel_(
        "replay", path, "--policy", "fast-only,slow-only", "--preset", "optane-6dimm", "--json"
    )
    fast, slow = (row["step_ns"] for row in json.loads(out)["rows"])
    assert ample["fast_ns"] == pytest.approx(fast, abs=2)
    assert ample["slow_ns"] == pytest.approx(slow, abs=2)
    # Only the variable can be in fast memory: the other tensor is not freed within the step.
    assert fast < ample["step_ns"] < tight["step_ns"] < slow
    assert slow - tight["step_ns"] == pytest.approx((slow - ample["step_ns"]) / 2, rel=0.01)
    code, _, err = sentinel_("bound", path, "--fast-memory", "2 MiB")
    assert code == ExitCode.USAGE
    code, _, err = sentinel_("bound", path, "--plan", path)
    assert code == ExitCode.USAGE
    assert "a trace needs --fast-memory and --preset" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "needs --fast-memory and --preset, or --plan"),
        (("--fast-memory", "20%"), "needs --fast-memory and --preset, or --plan"),
        (("--fast-memory", "20%,x", "--preset", "optane-6dimm"), "budget: must be a size such as"),
        (("--fast-memory", "20,", "--preset", "optane-6dimm"), "budget: must be a size such as"),
    ],
)
def test_wrong_bound_is_refused(profile: Path, sentinel_: Run, words: tuple[str, ...], message: str) -> None:
    code, _, err = sentinel_("bound", profile, *words)
    assert code == ExitCode.USAGE
    assert message in err
