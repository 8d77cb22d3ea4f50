# SPDX-License-Identifier: Apache-2.0
"""Configure and compile a kernel in its work tree: incrementally, with progress, and safe to interrupt."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from kernel import config, kbuild, machine_config
from kernel.build_spec import BuildSpec
from kernel.kbuild import Kbuild
from kernel.tree import WorkTree
from testbed.common import files, settings
from testbed.common.errors import BuildError
from testbed.common.processes import command_lines
from testbed.common.progress import Step, step

# A killed compiler leaves a truncated object that is newer than its source. The next build deletes and
# rebuilds every file written in the last seconds of an interrupted build.
_SUSPECT_S = 10.0
_MAKE_EXIT_S = 20.0  # time for the make of a killed build to exit


@dataclass
class _State:
    """Persistent state of an output folder."""

    path: Path
    objects: int | None = None  # count in the last build that compiled most of them
    running: bool = False  # make has not exited by itself
    finished: bool = False  # the log belongs to a finished build

    @staticmethod
    def load(output: Path) -> _State:
        path = output.with_name(output.name + ".json")
        try:
            return _State(path, **files.read_json(path))
        except (OSError, ValueError, TypeError):
            return _State(path)

    def save(self) -> None:
        fields = asdict(self)
        del fields["path"]
        files.write_json(self.path, fields)


@contextlib.contextmanager
def _attempt(output: Path) -> Iterator[_State]:
    """Wrap a run of make. If the previous run was killed, first delete the files it wrote last."""
    state = _State.load(output)
    if state.running:
        _wait_for_exit(output)
        _delete_suspects(output)
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


def configure(spec: BuildSpec, work: WorkTree) -> Path:
    """Write the requested .config into the output folder unless it is there already.

    Raises BuildError if kconfig refused a symbol.
    """
    make = work.kbuild(spec.flavour)
    output = make.output
    log = output.with_name(output.name + ".config.log")
    fresh, final = output / "new.config", output / ".config"
    with step(f"Configuring Linux {spec.source.version} ({'+'.join(spec.flavour)})"), _attempt(output):
        log.unlink(missing_ok=True)
        fresh.unlink(missing_ok=True)
        _merge(spec, work, fresh, log)
        config.check(spec.requests, fresh.read_text(), version=spec.source.version)
        if not final.exists() or final.read_bytes() != fresh.read_bytes():
            fresh.replace(final)  # a new mtime makes make check every file
    return final


def _merge(spec: BuildSpec, work: WorkTree, target: Path, log: Path) -> None:
    """Write the requests of `spec` and what they are made on top of as a .config."""
    make = work.kbuild(spec.flavour)
    requests = config.text(spec.requests)

    def run(name: str, **environment: str) -> None:
        make.stream(
            make.argv(name, variables={"KCONFIG_CONFIG": str(target)}), log=log, variables=environment
        )

    if spec.variant.machine is None:
        requested = make.output / "requested.config"
        requested.write_text(requests)
        run("allnoconfig", KCONFIG_ALLCONFIG=str(requested))
    else:
        apart = work.kbuild([*spec.flavour, "own"])  # in a folder that no build uses
        own = machine_config.reduced(spec.variant.machine, apart)
        target.write_text(config.without(own, spec.requests) + requests)
    run("olddefconfig")


def has_modules(dot_config: Path) -> bool:
    """Return whether a kernel with this .config has modules."""
    return config.parse(dot_config.read_text()).get("CONFIG_MODULES") == "y"


def compile_kernel(spec: BuildSpec, work: WorkTree) -> Path:
    """Build bzImage, and modules if the configuration has any; `log_of` names the log.

    Raises BuildError with the first compiler error. The next call resumes an interrupted build.
    """
    make = kbuild_of(spec, work)
    output, log = make.output, log_of(make.output)
    targets = ["bzImage", *(["modules"] if has_modules(output / ".config") else [])]
    title = f"Building Linux {spec.source.version} ({'+'.join(spec.flavour)})"
    with step(title) as s, _attempt(output) as state:
        if state.finished:
            log.unlink(missing_ok=True)
            state.finished = False
            state.save()
        usual = spec.source.spec.objects if spec.variant.machine is None else None
        count = _Counter(s, done=_count_objects(log), expected=state.objects or usual)
        argv = make.argv(*targets, jobs=settings.jobs())
        make.stream(argv, log=log, on_line=count.see)
        if count.done * 2 > (state.objects or 0):
            state.objects = count.done
        state.finished = True
        s.done(f"{count.done} objects")
    return output / "arch" / "x86" / "boot" / "bzImage"


def kbuild_of(spec: BuildSpec, work: WorkTree) -> Kbuild:
    """Return the make that builds this kernel."""
    return work.kbuild(spec.flavour, local_version=spec.local_version)


def log_of(output: Path) -> Path:
    """Return the log of all attempts since the last finished build."""
    return output.with_name(output.name + ".log")


class _Counter:
    """Counts the objects in make's output and shows progress."""

    def __init__(self, shown: Step, *, done: int, expected: int | None) -> None:
        self.done = done
        self._shown = shown
        self._expected = expected

    def see(self, line: str) -> None:
        match = kbuild.OBJECT.match(line)
        if not match:
            return
        self.done += 1
        share = None if self._expected is None else min(self.done / self._expected, 0.99)
        self._shown.update(share, f"{self.done} {match[1]}")


def _count_objects(log: Path) -> int:
    try:
        with log.open(errors="replace") as lines:
            return sum(1 for line in lines if kbuild.OBJECT.match(line))
    except FileNotFoundError:
        return 0


def _wait_for_exit(output: Path) -> None:
    """Wait until a make whose parent was killed has exited."""
    word = f"O={output}"
    until = time.monotonic() + _MAKE_EXIT_S
    while time.monotonic() < until and any(word in words for _, words in command_lines()):
        time.sleep(0.1)


def _delete_suspects(output: Path) -> None:
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
