# SPDX-License-Identifier: Apache-2.0
"""One repeat of a cell: restore the model's snapshot, train, and store the records."""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments import resuming
from experiments.backend import Backend, Callbacks
from experiments.job import ProcessError, Work
from experiments.matrix import Cell, Matrix
from experiments.planning import NoPlanError, Planning
from experiments.profiles import SUFFIX
from results import records, writer
from results.records import FastMemory, Provenance, Result
from testbed.common import files
from testbed.common.cache_entry import Entry
from testbed.common.errors import BuildError, SentinelError, UsageError, WorkloadError
from testbed.vm import Boot

_OUTPUT_BYTES = 16 << 20  # of a script's output that are kept


@dataclass
class _Attempt:
    """What a repeat has produced so far; it is stored even if the repeat fails."""

    started: float = field(default_factory=time.monotonic)
    steps: list[records.Step] = field(default_factory=list)
    budget: FastMemory | None = None
    plans: Mapping[str, Path] = field(default_factory=dict)
    profiles: Sequence[Path] = ()
    output: bytearray = field(default_factory=bytearray)
    summary: dict[str, Any] = field(default_factory=dict)
    snapshot: str = ""
    runtime: str | None = None
    console: Path | None = None

    def set_summary(self, summary: dict[str, Any]) -> None:
        """Keep the summary of a process that planned by itself, and the budget that it names."""
        self.summary = summary
        if summary.get("budget") is not None:
            self.budget = FastMemory(budget_bytes=summary["budget"], peak_bytes=summary["peak"])


def work_of(matrix: Matrix, cell: Cell) -> Work:
    """What the training process of a cell does."""
    return Work(
        seed=cell.resolved["seed"],
        threads=cell.resolved["threads"],
        runtime=matrix.suite.runtime,
        model=cell.model if cell.script is None else None,
        data=cell.data,
        script=cell.script,
    )


class Session:
    """Runs the repeats of a matrix on one boot configuration, and shares snapshots, profiles and plans.

    `command_of` gives the command that reproduces a cell, by default that of `provenance`. `on_output` gets
    the output of scripts that plan by themselves, as it comes. `kept_runtime` is the digest of the runtime of
    repeats that are in `out`, and with `replace` new repeats take the place of finished ones.
    """

    def __init__(
        self,
        matrix: Matrix,
        backend: Backend,
        boot: Boot,
        out: Path,
        provenance: Provenance,
        *,
        command_of: Callable[[Cell], str] | None = None,
        on_output: Callable[[bytes], None] | None = None,
        kept_runtime: str | None = None,
        replace: bool = False,
    ) -> None:
        self._kept_runtime, self._replace = kept_runtime, replace
        self._matrix, self._backend, self._boot = matrix, backend, boot
        self._out, self._provenance, self._on_output = out, provenance, on_output
        self._command_of = command_of or (lambda _: provenance.command)
        self._snapshots: dict[str, Entry] = {}
        self._planning = Planning(matrix, backend)

    def repeat(
        self, cell: Cell, number: int, *, on_restore: Callable[[], None], on_step: Callable[[int, bool], None]
    ) -> SentinelError | None:
        """Run and store one repeat; return its failure, or None.

        `on_restore` is called before the snapshot is restored, and `on_step` after each step with the number
        of steps of its kind so far and whether they are measured. `UsageError` and `BuildError` are raised:
        they would fail every repeat. Only a missing plan fails its cell alone.
        """
        attempt = _Attempt()
        failure: SentinelError | None = None
        try:
            self._train(cell, attempt, on_restore=on_restore, on_step=on_step)
        except NoPlanError as e:
            failure = e
        except (UsageError, BuildError):
            raise
        except SentinelError as e:
            failure = e
            attempt.console = e.log or attempt.console
            if isinstance(e, ProcessError) and e.output:
                self._add_output(cell, attempt, e.output.encode())
        self._store(cell, number, attempt, failure)
        return failure

    def _train(
        self,
        cell: Cell,
        attempt: _Attempt,
        *,
        on_restore: Callable[[], None],
        on_step: Callable[[int, bool], None],
    ) -> None:
        waiting = self._snapshot(cell)
        resuming.check_runtime(self._kept_runtime, waiting.manifest.get("runtime"))
        attempt.budget = self._planning.budget(cell, waiting)
        attempt.started = time.monotonic()
        attempt.snapshot = waiting.key
        attempt.runtime = waiting.manifest.get("runtime")
        on_restore()

        counts = Counter[bool]()

        def add_step(record: dict[str, Any]) -> None:
            try:
                step = records.Step.model_validate(record)
            except ValidationError as e:
                problem = e.errors()[0]["msg"]
                raise WorkloadError(f"the training process wrote an invalid step: {problem}") from None
            attempt.steps.append(step)
            counts[step.warmup] += 1
            on_step(counts[step.warmup], not step.warmup)

        order = self._planning.order(cell, waiting, attempt.budget)
        attempt.plans, attempt.profiles = order.plans, order.profiles

        def on_start(console: Path) -> None:
            attempt.console = console

        self._backend.train(
            waiting,
            self._matrix.preset,
            {"steps": cell.resolved["steps"], "warmup": cell.resolved["warmup"], **order.values},
            inputs=order.inputs,
            callbacks=Callbacks(
                on_start=on_start,
                on_step=add_step,
                on_output=None if cell.script is None else functools.partial(self._add_output, cell, attempt),
                on_summary=attempt.set_summary,
            ),
        )

    def _add_output(self, cell: Cell, attempt: _Attempt, data: bytes) -> None:
        """Keep output of a script up to a limit, and pass it on."""
        attempt.output += data[: _OUTPUT_BYTES - len(attempt.output)]
        if cell.online and self._on_output is not None:
            self._on_output(data)

    def _snapshot(self, cell: Cell) -> Entry:
        """The barrier snapshot of the cell's model; every policy and repeat starts from it."""
        work = work_of(self._matrix, cell)
        key = files.sha256_json(work.key())
        if key not in self._snapshots:
            self._snapshots[key] = self._backend.barrier_snapshot(self._boot, work)
        return self._snapshots[key]

    def _store(self, cell: Cell, number: int, attempt: _Attempt, failure: SentinelError | None) -> None:
        provenance = {
            "command": self._command_of(cell),
            "snapshot": attempt.snapshot,
            "runtime": attempt.runtime,
            "fast_memory": attempt.budget,
        }
        texts = {"output.log": bytes(attempt.output), "summary.json": _json(attempt.summary)}
        plans = {f"plan-{kind}{SUFFIX}": path for kind, path in attempt.plans.items()}
        for profile in attempt.profiles:
            writer.write_profile(self._out, profile)
        writer.write_repeat(
            self._out,
            cell.id,
            number,
            cell={"id": cell.id, **cell.resolved},
            result=Result(
                status="failed" if failure else "ok",
                verdict=records.verdict_of(failure) if failure else None,
                message=failure.message if failure else "",
                steps=len(attempt.steps),
                real_seconds=round(time.monotonic() - attempt.started, 3),
            ),
            steps=attempt.steps,
            provenance=self._provenance.model_copy(update=provenance),
            replace=self._replace,
            extra={**_machine_files(attempt.console), **plans, **{k: v for k, v in texts.items() if v}},
        )


def _json(value: dict[str, Any]) -> bytes:
    """The value as JSON text; empty if it is."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode() if value else b""


def _machine_files(console: Path | None) -> dict[str, Path]:
    """The files of a machine to keep with a repeat, by name."""
    if console is None:
        return {}
    paths = [console.with_name(name) for name in ("counters.jsonl", "qemu.log")]
    paths += sorted(console.parent.glob("pages-*.csv"))
    kept = {"console.log": console, **{path.name: path for path in paths}}
    return {name: path for name, path in kept.items() if path.exists()}
