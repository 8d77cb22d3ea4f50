# SPDX-License-Identifier: Apache-2.0
"""Configuring and compiling in a work tree: incremental, with progress, and safe to interrupt."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from kernel import config, make
from kernel.plan import Plan
from kernel.tree import WorkTree
from testbed.common import files, settings
from testbed.common.errors import BuildError
from testbed.common.processes import command_lines
from testbed.common.progress import Step, step

# A killed compiler leaves an object that is half there and newer than its source. Whatever was written this
# shortly before the end of an interrupted build is made again.
_SUSPECT_S = 10.0
_PATIENCE_S = 20.0  # for the make of a killed build to end


@dataclass
class _State:
    """What is remembered of an output folder."""

    path: Path
    objects: int | None = None  # made by the last build that made most of them
    running: bool = False  # make has not ended by itself
    finished: bool = False  # the log is that of a finished build

    @staticmethod
    def of(output: Path) -> _State:
        path = output.with_name(output.name + ".json")
        try:
            return _State(path, **files.read_json(path))
        except (OSError, ValueError, TypeError):
            return _State(path)

    def save(self) -> None:
        known = asdict(self)
        del known["path"]
        files.write_json(self.path, known)


@contextlib.contextmanager
def _attempt(output: Path) -> Iterator[_State]:
    """Around any use of make: if it did not end by itself the last time, do not trust what it wrote last."""
    state = _State.of(output)
    if state.running:
        _wait_for_end(output)
        _distrust(output)
    state.running = True
    state.save()
    try:
        yield state
    except BuildError:
        state.running = False
        with contextlib.suppress(OSError):
            state.save()
        raise
    state.running = False
    state.save()


def configure(plan: Plan, work: WorkTree) -> Path:
    """Write the .config that `plan` requests into the output folder, if it is not there already.

    Raises BuildError if kconfig did not grant a symbol.
    """
    maker = work.make(plan.flavour)
    output = maker.output
    log = output.with_name(output.name + ".config.log")
    requested, fresh, final = output / "requested.config", output / "new.config", output / ".config"
    with step(f"Configuring Linux {plan.source.version} ({'+'.join(plan.flavour)})"), _attempt(output):
        log.unlink(missing_ok=True)
        fresh.unlink(missing_ok=True)
        requested.write_text(config.text(plan.requests))
        for target, environment in (
            ("allnoconfig", {"KCONFIG_ALLCONFIG": str(requested)}),
            ("olddefconfig", {}),
        ):
            argv = maker.argv(target, variables={"KCONFIG_CONFIG": str(fresh)})
            maker.stream(argv, log=log, variables=environment)
        config.check(plan.requests, fresh.read_text(), version=plan.source.version)
        if not final.exists() or final.read_bytes() != fresh.read_bytes():
            fresh.replace(final)  # only then: a new time makes make look at everything again
    return final


def compile_image(plan: Plan, work: WorkTree) -> Path:
    """Make bzImage in a configured output folder; `log_of` names its log.

    Raises BuildError with the first compiler error. Interrupted, it goes on where it was the next time.
    """
    maker = work.make(plan.flavour)
    output, log = maker.output, log_of(maker.output)
    title = f"Building Linux {plan.source.version} ({'+'.join(plan.flavour)})"
    with step(title) as s, _attempt(output) as state:
        if state.finished:
            log.unlink(missing_ok=True)
            state.finished = False
            state.save()
        count = _Counter(s, done=_made(log), expected=state.objects or plan.source.spec.objects)
        argv = maker.argv("bzImage", jobs=settings.jobs())
        maker.stream(argv, log=log, on_line=count.see)
        if count.done * 2 > (state.objects or 0):
            state.objects = count.done
        state.finished = True
        s.done(f"{count.done} objects")
    return output / "arch" / "x86" / "boot" / "bzImage"


def log_of(output: Path) -> Path:
    """The log of all attempts since the last finished build."""
    return output.with_name(output.name + ".log")


class _Counter:
    """Counts objects in make's output and shows how far that is."""

    def __init__(self, shown: Step, *, done: int, expected: int) -> None:
        self.done = done
        self._shown = shown
        self._expected = expected

    def see(self, line: str) -> None:
        found = make.OBJECT.match(line)
        if not found:
            return
        self.done += 1
        share = min(self.done / self._expected, 0.99)
        self._shown.update(share, f"{self.done} {found[1]}")


def _made(log: Path) -> int:
    try:
        with log.open(errors="replace") as lines:
            return sum(1 for line in lines if make.OBJECT.match(line))
    except FileNotFoundError:
        return 0


def _wait_for_end(output: Path) -> None:
    """Wait until a make whose parent was killed has stopped its compilers and ended."""
    word = os.fsencode(f"O={output}")
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until and any(word in words for _, words in command_lines()):
        time.sleep(0.1)


def _distrust(output: Path) -> None:
    times: dict[Path, float] = {}
    for folder, _, names in os.walk(output):
        for name in names:
            path = Path(folder) / name
            with contextlib.suppress(OSError):
                times[path] = path.lstat().st_mtime
    limit = max(times.values(), default=0.0) - _SUSPECT_S
    for path, written in times.items():
        if written >= limit and path.name != ".config":
            path.unlink(missing_ok=True)
