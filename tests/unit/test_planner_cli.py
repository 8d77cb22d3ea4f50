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
from sentinel.cli import main
from sentinel.planner import explain, search
from sentinel.planner.check import check
from sentinel.planner.formats import figures, files
from sentinel.planner.memory import classify
from testbed.common.errors import ExitCode
from testbed.timing import preset as presets
from tests.fakes import profiles

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sentinel_(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str | Path) -> tuple[int, str, str]:
        code = main._run([str(word) for word in words], debug=False)
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "step.json.gz"
    files.write_profile(path, profiles.resnet())
    return path


@pytest.fixture
def plan(profile: Path, sentinel_: Run) -> Path:
    code, _, err = sentinel_("plan", profile, "--budget", "20%", "--preset", "optane-6dimm")
    assert (code, err) == (0, f"plan in {profile.with_name('step.plan.json')}\n")
    return profile.with_name("step.plan.json")


def test_a_plan_is_made_of_a_profile(profile: Path, plan: Path) -> None:
    made, loaded = files.read_plan(plan), files.read_profile(profile)
    assert check(loaded, made) == []
    assert made.budget == classify.peak(loaded) // 5
    assert made.made["profile"] == files.digest(profile)
    assert figures.parse(made.made["figures"]) == figures_of(presets.load("optane-6dimm"))


def test_a_plan_as_a_table_and_for_programs(tmp_path: Path, profile: Path, sentinel_: Run) -> None:
    words = ("plan", profile, "--budget", "4 MiB", "--preset", "cxl-asic", "--fast-step-ns", "12e6")
    code, out, _ = sentinel_(*words, "-o", tmp_path / "a.json.gz")
    assert code == 0
    assert "4 MiB, 912 KiB of it for short-lived tensors" in out
    code, out, _ = sentinel_(*words, "-o", tmp_path / "b.json.gz", "--json")
    assert json.loads(out)["predicted"]["fast_ns"] == pytest.approx(12e6, rel=1e-3)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_figures_are_the_presets() -> None:
    preset = presets.load("optane-6dimm")
    made = figures_of(preset)
    assert (made.nodes[1].read_latency, made.nodes[1].write_bandwidth) == (305, 13.9)
    assert (made.line, made.cache, made.page, made.compute, made.helper) == (64, 1 << 20, 1500, 240, 10)
    assert figures.parse(figures.encode(made)) == made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget", "1%", "--preset", "cxl-asic"), "error: the budget of 148714 bytes is below the floor"),
        (("--budget", "much", "--preset", "cxl-asic"), "error: budget: must be a size such as 14 MiB"),
        (("--budget", "20%", "--preset", "none"), "error: unknown preset 'none'"),
    ],
)
def test_what_cannot_be_planned_is_a_usage_error(
    profile: Path, sentinel_: Run, words: tuple[str, ...], message: str
) -> None:
    code, out, err = sentinel_("plan", profile, *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith(message)
    assert list(profile.parent.iterdir()) == [profile]


def test_the_floor_is_a_hint_that_works(profile: Path, sentinel_: Run) -> None:
    words = ("plan", profile, "--preset", "cxl-asic", "--budget")
    hint = sentinel_(*words, "1%")[2].splitlines()[1]
    floor = hint.removeprefix(" hint: --budget ").partition(" ")[0]
    assert sentinel_(*words, str(int(floor) - 1))[0] == ExitCode.USAGE
    assert sentinel_(*words, floor)[0] == 0
    assert sentinel_(*words, str(int(floor) - 1), "--spill")[0] == 0


def test_a_profile_is_explained(profile: Path, sentinel_: Run) -> None:
    code, out, _ = sentinel_("explain", profile)
    assert code == 0
    assert "357 in 40 layers" in out
    assert "short     below a page" in out
    step = json.loads(sentinel_("explain", profile, "--json")[1])["profile"]
    assert step["tensors"] == sum(row["tensors"] for row in step["classes"]) == 1463
    assert sum(row["of_accesses"] for row in step["classes"]) == pytest.approx(1)
    hot = [row["of_accesses"] for row in step["hottest"]]
    assert hot == sorted(hot)
    assert all(row["of_accesses"] >= 0.9 * row["of_bytes"] for row in step["hottest"])


def test_a_plan_is_explained_with_its_profile_or_without(profile: Path, plan: Path, sentinel_: Run) -> None:
    alone = sentinel_("explain", plan)[1]
    assert "as published" in alone
    assert "static" in alone
    both = sentinel_("explain", plan, "--profile", profile)[1]
    assert both.endswith(alone)
    assert set(json.loads(sentinel_("explain", plan, "--profile", profile, "--json")[1])) == {
        "profile",
        "plan",
    }


def test_plots_are_drawn_of_what_there_is(tmp_path: Path, profile: Path, plan: Path, sentinel_: Run) -> None:
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


def test_a_profile_without_tensors_is_explained_too(tmp_path: Path, sentinel_: Run) -> None:
    path = tmp_path / "empty.json"
    files.write_profile(path, profiles.small([0, 1], [5, 5], []))
    assert sentinel_("plan", path, "--budget", "1 MiB", "--preset", "cxl-asic")[0] == 0
    code, _, err = sentinel_(
        "explain", tmp_path / "empty.plan.json", "--profile", path, "--plots", tmp_path / "plots"
    )
    assert code == 0, err


def test_a_plan_of_somebody_elses_is_explained_as_far_as_it_tells(
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


def test_a_plan_with_anothers_profile_is_refused(tmp_path: Path, plan: Path, sentinel_: Run) -> None:
    other = tmp_path / "other.json"
    files.write_profile(other, profiles.lstm())
    code, out, err = sentinel_("explain", plan, "--profile", other)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "graph: the plan is for another graph than the profile" in err
    code, _, err = sentinel_("explain", other, "--profile", other)
    assert code == ExitCode.USAGE
    assert "--profile belongs to a PLAN" in err


def test_what_is_no_profile_is_a_usage_error(tmp_path: Path, profile: Path, sentinel_: Run) -> None:
    (tmp_path / "x").write_bytes(profile.read_bytes()[:500])
    for path, message in ((tmp_path / "x", "is not whole"), (tmp_path / "none", "cannot be read")):
        code, _, err = sentinel_("explain", path)
        assert code == ExitCode.USAGE
        assert f"error: {path}: {message}" in err
    (tmp_path / "plots").write_text("in the way")
    code, _, err = sentinel_("explain", profile, "--plots", tmp_path / "plots")
    assert code == ExitCode.USAGE
    assert "cannot be written" in err


def test_the_course_of_a_plan_is_what_was_predicted() -> None:
    """Told again from the plan's file alone, the step takes as long, and is never over its budget."""
    for made, share in ((profiles.resnet(), 0.2), (profiles.resnet(), 0.6), (profiles.lstm(), 0.5)):
        planned = search.make(
            made,
            int(share * classify.peak(made)),
            figures_of(presets.load("optane-6dimm")),
            fast_step_ns=made.step_ns / 3,
        )
        course = explain.course(made, planned)
        assert round(course.timeline.step_ns) == planned.predicted["step_ns"]
        assert round(course.timeline.exposed_ns) == planned.predicted["exposed_ns"]
        assert (course.memory["fast"] + course.memory["reserved"] <= planned.budget).all()
        living = classify.live_bytes(made, made.tensors.size)
        assert (sum(course.memory.values(), np.zeros(1, dtype=np.int64)) >= living).all()
        assert all((part >= 0).all() for part in course.memory.values())


def test_the_guests_program_makes_the_same_plan(tmp_path: Path, profile: Path) -> None:
    """Copied to a folder of its own as a package of the top level, as in the guest."""
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
    loaded = files.read_profile(profile)
    assert files.read_plan(tmp_path / "plan.json") == search.make(
        loaded,
        classify.peak(loaded) // 5,
        files.read_figures(tmp_path / "figures.json"),
        source=files.digest(profile),
    )
    done = run(*words, "1%")
    assert done.returncode == 2
    assert done.stderr.startswith("planner: the budget of 148714 bytes is below the floor")
    assert done.stderr.count("\n") == 1
