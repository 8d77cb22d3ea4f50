# SPDX-License-Identifier: Apache-2.0
"""The store of results that outlive their runs: baselines with their history, and repeatability.

    STORE/<baseline>/<created>-<commit>.json     one result, in the figures of `results.measured`
    STORE/<baseline>/current                     name of the result in use; without it, the newest one
    STORE/repeatability/<kind>.json              see `results.repeatability`

Files are only ever added or replaced as a whole, so the folder can be committed, or cached by CI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from results import measured
from results.measured import Measured
from results.runs import Run
from results.sides import Side
from testbed.common import files
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import UsageError
from testbed.common.names import is_valid

_CURRENT = "current"
_RESERVED = "repeatability"


@dataclass(frozen=True)
class Entry:
    """A stored result; `current` if comparisons with the baseline use it."""

    baseline: str
    name: str
    path: Path
    current: bool

    def read(self) -> Measured:
        """Read the result. Raises `UsageError` if it is damaged."""
        return measured.read(self.path)


def save(store: Path, baseline: str, run: Run) -> Entry:
    """Add a run to a baseline, make it the current one, and return it.

    Saving the same run again replaces its result. Raises `UsageError` for an invalid name, or a run without
    finished repeats.
    """
    folder = _folder(store, baseline)
    result = measured.of_run(run)
    if not any(cell.repeats for cell in result.cells):
        raise UsageError(f"{run.path}: has no finished repeat", hint=f"sentinel report {run.path}")
    commit, _, dirty = (result.commit or "unknown").partition("-")
    short = re.sub("[^0-9A-Za-z]", "", commit)[:10] + ("-dirty" if dirty else "")
    name = f"{result.created:%Y%m%dT%H%M%SZ}-{short}"
    path = folder / f"{name}.json"
    with explained_disk_errors(path):
        measured.write(path, result)
        (folder / _CURRENT).unlink(missing_ok=True)
        if entries(store, baseline)[-1].name != name:  # an older run than the newest
            files.write_atomic(folder / _CURRENT, f"{name}\n")
    return Entry(baseline, name, path, current=True)


def use(store: Path, baseline: str, name: str) -> Entry:
    """Make a stored result the current one of its baseline. `newest` follows the newest result."""
    known = _existing(store, baseline)
    path = _folder(store, baseline) / _CURRENT
    if name == "newest":
        path.unlink(missing_ok=True)
        return current(store, baseline)
    if name not in [entry.name for entry in known]:
        raise UsageError(
            f"baseline {baseline} has no result {name!r}", hint=f"sentinel baseline list {baseline}"
        )
    with explained_disk_errors(path):
        files.write_atomic(path, f"{name}\n")
    return current(store, baseline)


def current(store: Path, baseline: str) -> Entry:
    """Return the result in use of a baseline. Raises `UsageError` if there is none."""
    known = _existing(store, baseline)
    chosen = [entry for entry in known if entry.current]
    if not chosen:
        raise UsageError(
            f"baseline {baseline}: the result in use is missing", hint=f"sentinel baseline list {baseline}"
        )
    return chosen[0]


def baselines(store: Path) -> list[str]:
    """Return the names of all baselines."""
    if not store.is_dir():
        return []
    return sorted(
        path.name
        for path in store.iterdir()
        if path.is_dir() and is_valid(path.name) and path.name != _RESERVED and any(path.glob("*.json"))
    )


def entries(store: Path, baseline: str) -> list[Entry]:
    """Return the results of a baseline, oldest first."""
    folder = _folder(store, baseline)
    names = sorted(path.stem for path in folder.glob("*.json") if not path.name.startswith("."))
    chosen = _chosen(folder) or (names[-1] if names else None)
    return [Entry(baseline, name, folder / f"{name}.json", name == chosen) for name in names]


def side(store: Path, text: str) -> Side:
    """Return the side of a comparison that a person named: a run, runs joined by commas, or a baseline.

    Raises `UsageError` if there is neither such a folder nor such a baseline.
    """
    if text in baselines(store):
        entry = current(store, text)
        return Side.of_results(f"baseline {text} ({entry.name})", [entry.read()])
    whole = Path(text)
    paths = [whole] if whole.exists() or "," not in text else [Path(part) for part in text.split(",")]
    if len(paths) == 1 and not whole.exists() and is_valid(text):
        known = ", ".join(baselines(store)) or "none"
        raise UsageError(f"{text}: neither a folder nor a baseline", hint=f"baselines in {store}: {known}")
    return Side.of_runs(*(Run.load(path) for path in paths))


def _existing(store: Path, baseline: str) -> list[Entry]:
    known = entries(store, baseline)
    if not known:
        names = ", ".join(baselines(store)) or "none"
        raise UsageError(
            f"there is no baseline {baseline!r} in {store}",
            hint=f"sentinel baseline save {baseline} RUN; there are: {names}",
        )
    return known


def _chosen(folder: Path) -> str | None:
    try:
        return (folder / _CURRENT).read_text().strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _folder(store: Path, baseline: str) -> Path:
    if not is_valid(baseline) or baseline == _RESERVED:
        raise UsageError(
            f"{baseline!r} cannot name a baseline",
            hint="lower-case letters, digits and dashes, at most 40, not starting with a dash",
        )
    return store / baseline
