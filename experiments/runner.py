# SPDX-License-Identifier: Apache-2.0
"""Runs a suite: every repeat of every cell, from the same snapshot, stored the moment it is done."""

from __future__ import annotations

import datetime
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments import boot, folder, job, prepared, profiles, provenance
from experiments.boot import Made
from experiments.profiles import Profiled
from experiments.suite import PLANNED, Cell, Plan, on_kernel
from results import records, runs, writer
from results.records import FastMemory, Result
from sentinel.planner.errors import BudgetError, PlannerError
from sentinel.planner.formats import files as planner
from sentinel.planner.formats.figures import Figures
from testbed import vm
from testbed.common import files
from testbed.common.cache import Cache, Entry
from testbed.common.errors import BuildError, SentinelError, UsageError, WorkloadError
from testbed.common.progress import Step, note, step, warn
from testbed.timing import calibration, counters
from testbed.timing.calibration import Calibration
from testbed.vm import snapshot

_GIVE_UP_AFTER = 3  # failures of one cell; the host may be to blame for one


@dataclass
class Outcome:
    """What became of a run: repeats done now, found done, and the first failure of each failed cell."""

    done: int
    kept: int
    failures: list[SentinelError]


class NoPlanError(UsageError):
    """A suite asks for a plan that cannot be made: its cell fails, and the others run."""


class Estimate:
    """How much is left, in steps of training: the longest part of a repeat, and the same for every placement.

    A repeat's own overhead (restore, session, end) counts as two steps. Only time between `begin` and
    `repeats_over` counts, so making a snapshot does not spoil the estimate.
    """

    OVERHEAD = 2

    def __init__(self, repeats: int, steps: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._per_repeat = steps + self.OVERHEAD
        self._total = repeats * self._per_repeat
        self._now = now
        self._repeats = 0
        self._steps = 0
        self._spent = 0.0
        self._begun: float | None = None

    def begin(self) -> None:
        """A repeat begins."""
        self._begun = self._now()

    def step_done(self) -> None:
        self._steps += 1

    def repeats_over(self, number: int = 1) -> None:
        """So many repeats are over, well or not."""
        if self._begun is not None:
            self._spent += self._now() - self._begun
        self._begun = None
        self._repeats += number
        self._steps = 0

    @property
    def fraction(self) -> float:
        """The share of the work that is done, 0 to 1."""
        done = self._repeats * self._per_repeat + min(self._steps, self._per_repeat)
        return min(1.0, done / self._total) if self._total else 1.0

    def left(self) -> str:
        """For a person: `about 3 min left`."""
        spent = self._spent + (self._now() - self._begun if self._begun is not None else 0.0)
        if not self.fraction or not spent:
            return "estimating"
        seconds = spent / self.fraction * (1 - self.fraction)
        return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


def run(
    plan: Plan,
    out: Path,
    *,
    command: str,
    location: str | None = None,
    uri: str | None = None,
    cache: Cache | None = None,
) -> Outcome:
    """Run what is not yet in `out`, which is made or resumed.

    `command` is the line that started this, for the record. A failed repeat is stored with its verdict and
    the run goes on with the next cell; what this host refuses to everybody (`UsageError`, `BuildError`) ends
    it. Raises `UsageError` before anything is built if another process runs in `out`, or if `out` holds
    something else than this run.
    """
    with folder.claimed(out, command=command):
        _check_suite(plan, out)
        return _run(plan, out, command=command, location=location, uri=uri, cache=cache or Cache())


def _run(
    plan: Plan, out: Path, *, command: str, location: str | None, uri: str | None, cache: Cache
) -> Outcome:
    made = boot.make(
        plan.machine, preset=plan.preset, kernel=plan.suite.kernel, location=location, cache=cache
    )
    plan = on_kernel(plan, made.kernel.source)
    _open(plan, out)
    todo = [
        (cell, sorted(set(range(plan.suite.repeats)) - runs.finished(out, cell.id))) for cell in plan.cells
    ]
    kept = sum(plan.suite.repeats - len(missing) for _, missing in todo)
    outcome = Outcome(0, kept, [])
    if kept:
        note(f"{kept} finished repeats are kept")
    if not any(missing for _, missing in todo):
        return outcome
    measured = None
    if plan.preset is not None or made.boot.remote is not None:
        measured = calibration.of(made.boot, cache=cache, uri=uri)
        calibration.told(measured)
    session = _Session(plan, out, made, cache, command, uri, measured)
    estimate = Estimate(sum(len(missing) for _, missing in todo), plan.suite.warmup + plan.suite.steps)
    with step(f"Running {plan.suite.name}") as shown:
        for cell, missing in todo:
            label = plan.axes.label(cell.resolved)
            failed = 0
            for i, repeat in enumerate(missing):
                failure = session.repeat(cell, repeat, shown, estimate)
                estimate.repeats_over()
                if failure is None:
                    outcome.done += 1
                    continue
                failed += 1
                if failed == 1:
                    outcome.failures.append(failure)
                warn(f"{label}, repeat {repeat + 1}: {failure.message}")
                if failed == _GIVE_UP_AFTER or failed > i:  # nothing but failures: it will not get better
                    tries = "1 failed repeat" if failed == 1 else f"{failed} failed repeats"
                    warn(f"{label}: skipped after {tries}; the next run into {out} tries again")
                    estimate.repeats_over(len(missing) - i - 1)
                    break
        shown.done(f"{outcome.done} repeats done")
    return outcome


def _check_suite(plan: Plan, out: Path) -> None:
    """Make sure that a run in `out` is one of this suite, whatever kernel `auto` comes to."""
    if not (out / "run.json").exists():
        return
    there = runs.read_info(out)
    kernel = there.resolved.get("kernel")
    if isinstance(kernel, str):
        plan = on_kernel(plan, kernel)
    if set(there.cells) != {cell.id for cell in plan.cells}:
        raise _different(out, there)


def _open(plan: Plan, out: Path) -> None:
    """Begin a run in `out`, or make sure that it is this one's beginning."""
    info = records.RunInfo(
        suite=plan.suite.name,
        created=datetime.datetime.now(datetime.UTC),
        resolved=plan.suite.model_dump(mode="json"),
        cells=[cell.id for cell in plan.cells],
    )
    if not (out / "run.json").exists():
        writer.write_run(out, info)
        return
    there = runs.read_info(out)
    if set(there.cells) != set(info.cells):
        raise _different(out, there)


def _different(out: Path, there: records.RunInfo) -> UsageError:
    return UsageError(
        f"{out} holds a run of a different suite ({there.suite}, {there.created:%Y-%m-%d %H:%M})",
        hint="name another folder with --out, or bring the suite back to what it was",
    )


class _Session:
    """What all repeats of a run have in common."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        made: Made,
        cache: Cache,
        command: str,
        uri: str | None,
        measured: Calibration | None,
    ) -> None:
        self._plan = plan
        self._axes = plan.axes
        self._out = out
        self._made = made
        self._cache = cache
        self._uri = uri
        self._provenance = provenance.collect(made, command=command, calibration=measured)
        self._name = f"run-{os.getpid()}"
        self._waiting: dict[str, Entry] = {}
        self._profiled: dict[str, Profiled] = {}
        self._plans = tempfile.TemporaryDirectory(prefix="sentinel-plans-")

    def repeat(self, cell: Cell, number: int, shown: Step, estimate: Estimate) -> SentinelError | None:
        """Run and store one repeat; returns its failure, if it failed."""
        started = time.monotonic()
        steps: list[records.Step] = []
        label = self._axes.label(cell.resolved)
        snapshot_key = ""

        def on_step(record: dict[str, Any]) -> None:
            try:
                steps.append(records.Step.model_validate(record))
            except ValidationError as e:
                raise WorkloadError(
                    f"the training process wrote what is no step: {e.errors()[0]['msg']}"
                ) from None
            estimate.step_done()
            measured = sum(not step.warmup for step in steps)
            # How many steps are not measured the guest decides: a plan's trial takes some
            say(f"step {measured}/{self._plan.suite.steps}" if measured else f"warm-up step {len(steps)}")

        def say(what: str) -> None:
            place = f"{label}, repeat {number + 1}/{self._plan.suite.repeats}, {what}"
            shown.update(estimate.fraction, f"{place}, {estimate.left()}")

        failure: SentinelError | None = None
        log: Path | None = None
        made: Path | None = None
        budget: FastMemory | None = None
        try:
            entry = self._snapshot(cell)
            if cell.fast_memory is not None:
                peak = self._profile(entry).peak
                budget = FastMemory(budget_bytes=int(peak * cell.fast_memory), peak_bytes=peak)
            started = time.monotonic()
            estimate.begin()
            snapshot_key = entry.key
            say("restoring")
            saved = snapshot.load(entry, cache=self._cache).costing(self._plan.preset)
            within, made = self._budgeted(cell, entry, budget)
            with vm.running(self._name, saved, uri=self._uri) as machine:
                log = machine.console_path
                with machine.shell() as shell:
                    order = {
                        "placement": cell.placement,
                        "steps": self._plan.suite.steps,
                        "warmup": self._plan.suite.warmup,
                        **within,
                    }
                    if made is not None:
                        shell.put(made, within["plan"])
                    job.release(shell, machine.watchdog(), order, on_step, per_step=machine.limits.step)
                if self._plan.preset is not None:
                    counters.check(machine.counters_path)
        except NoPlanError as e:
            failure = e
        except (UsageError, BuildError):
            raise
        except SentinelError as e:
            failure = e
            log = e.log or log
        writer.write_repeat(
            self._out,
            cell.id,
            number,
            cell={"id": cell.id, **cell.resolved},
            result=Result(
                status="failed" if failure else "ok",
                verdict=records.verdict_of(failure) if failure else None,
                message=failure.message if failure else "",
                steps=len(steps),
                real_seconds=round(time.monotonic() - started, 3),
            ),
            steps=steps,
            provenance=self._provenance.model_copy(update={"snapshot": snapshot_key, "fast_memory": budget}),
            extra={**_files(log), **({} if made is None else {"plan.json.gz": made})},
        )
        return failure

    def _snapshot(self, cell: Cell) -> Entry:
        """The guest waiting to train the cell's model; every placement and repeat starts from it."""
        work = {"model": cell.model, "seed": self._plan.suite.seed, "threads": self._plan.suite.threads}
        if self._plan.suite.fast_memory:
            work["runtime"] = True
        key = files.sha256_json(work)
        if key not in self._waiting:
            self._waiting[key] = prepared.waiting(
                self._made.boot, work, name=self._name, cache=self._cache, uri=self._uri
            )
        return self._waiting[key]

    def _profile(self, entry: Entry) -> Profiled:
        """What is known of the model that waits in the snapshot."""
        if entry.key not in self._profiled:
            assert self._plan.preset is not None  # noqa: S101 -- load() saw to it
            self._profiled[entry.key] = profiles.of(
                entry, self._plan.preset, name=self._name, cache=self._cache, uri=self._uri
            )
        return self._profiled[entry.key]

    def _budgeted(
        self, cell: Cell, entry: Entry, budget: FastMemory | None
    ) -> tuple[dict[str, Any], Path | None]:
        """What the order says of fast memory, and the plan's file if there is one to be carried out."""
        if budget is None:
            return {}, None
        size = budget.budget_bytes
        if cell.placement not in PLANNED:
            return {"fast_memory": size}, None
        profiled = self._profile(entry)
        path = Path(self._plans.name) / f"{cell.id}.json.gz"
        try:
            if not path.exists():  # it is the same for every repeat
                published = cell.placement == "published"
                plan = profiled.plan(size, self._figures(), published=published)
                planner.write_plan(path, plan)
        except BudgetError as e:
            raise _below_floor(self._axes.label(cell.resolved), size, e.floor, profiled.peak) from None
        except PlannerError as e:
            label = self._axes.label(cell.resolved)
            raise NoPlanError(f"there is no plan for {label}: {e}") from None
        return {"fast_memory": size, "plan": f"/run/sentinel/{path.name}"}, path

    def _figures(self) -> Figures:
        """Of the machine; a helper has a CPU of its own if there is one beside that which computes."""
        assert self._plan.preset is not None  # noqa: S101 -- load() saw to it
        return profiles.figures_of(self._plan.preset, helpers=profiles.helpers_of(self._plan.machine))


def _below_floor(label: str, budget: int, floor: int, peak: int) -> NoPlanError:
    share = -(-100 * floor // peak)
    least = f"{share}% is the least" if share <= 100 else "no share of the model's peak is enough"
    return NoPlanError(
        f"the budget of {label}, {budget / 2**20:.1f} MiB, is below the floor of "
        f"{floor / 2**20:.1f} MiB: {least}"
    )


def _files(console: Path | None) -> dict[str, Path]:
    """What is kept of a machine beside its steps."""
    if console is None:
        return {}
    beside = [console.with_name(name) for name in ("counters.jsonl", "qemu.log")]
    beside += sorted(console.parent.glob("pages-*.csv"))
    kept = {"console.log": console, **{path.name: path for path in beside}}
    return {name: path for name, path in kept.items() if path.exists()}
