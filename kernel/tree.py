# SPDX-License-Identifier: Apache-2.0
"""A private, patched copy of a kernel source that stays between builds, so that the next one is incremental.

    scratch/kernel-<name>-<id>/
        tree/                the source with the series applied
        tree.json            marker: `tree/` is complete, and what the source was; written last
        orig/                pristine copies of the files that a series touched
        touched.json         their names
        stage/               where a series is applied before anything in `tree/` changes
        build/<flavour>/     make's output (O=)

Files are written only if their content changes, so make rebuilds what an edited patch or source affects and
no more. The user's own tree is only read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel import series, snapshot
from kernel.make import Make
from kernel.series import Patch
from kernel.snapshot import Content
from kernel.source import Source
from testbed.common import files, run
from testbed.common.cache import Cache, work_lock
from testbed.common.errors import InfrastructureError
from testbed.common.progress import Step, note, step


@dataclass(frozen=True)
class WorkTree:
    """A work tree whose lock is held."""

    source: Source
    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def output(self, flavour: Sequence[str]) -> Path:
        """Make's output folder for a set of fragments."""
        path = self.folder / "build" / "+".join(flavour)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def make(self, flavour: Sequence[str]) -> Make:
        return Make(self.tree, self.output(flavour), self.source.spec.cflags)


@contextlib.contextmanager
def opened(source: Source, patches: Sequence[Patch], *, cache: Cache) -> Iterator[WorkTree]:
    """The work tree of `source` with exactly `patches` applied, to this process alone.

    Raises BuildError if a patch does not apply; the tree is then as it was before.
    """
    folder = cache.root / "scratch" / folder_name(source)
    busy = f"waiting for another build of Linux {source.name} in {folder}"
    with files.locked(work_lock(folder), on_wait=lambda: note(busy)):
        cache.work(folder.name)
        work = WorkTree(source, folder)
        _fill(work)
        _patch(work, patches)
        yield work


def folder_name(source: Source) -> str:
    """One folder per archive and commit; a local tree keeps its folder while it changes."""
    identity = str(source.path) if source.kind == "tree" else source.digest
    return f"kernel-{source.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _fill(work: WorkTree) -> None:
    """Bring `tree/` (but for patched files) and `orig/` to the state of the source."""
    marker = work.folder / "tree.json"
    known = _read(marker)
    if known.get("digest") == work.source.digest:
        return
    marker.unlink(missing_ok=True)
    if work.source.files is None:
        with step(f"Unpacking Linux {work.source.version}"):
            _unpack(work)
        contents = {}
    else:
        with step(f"Copying Linux {work.source.version}") as s:
            contents = _copy(work, known.get("contents"), s)
    os.sync()  # the marker must not outlive, in a power failure, what it vouches for
    files.write_json(marker, {"digest": work.source.digest, "contents": contents})


def _unpack(work: WorkTree) -> None:
    fresh = work.folder / "tree.new"
    for stale in (fresh, work.tree, work.folder / "orig"):
        shutil.rmtree(stale, ignore_errors=True)
    (work.folder / "touched.json").unlink(missing_ok=True)
    fresh.mkdir()
    source = work.source
    assert source.path is not None  # noqa: S101 -- obtain() came first
    if source.kind == "git":
        _unpack_commit(source.path, source.digest.removeprefix("git:"), fresh)
    else:
        # Times as in the archive: older than anything built from them.
        run.run(["tar", "--extract", "--no-same-owner", f"--file={source.path}", f"--directory={fresh}"])
    inside = list(fresh.iterdir())
    top = inside[0] if len(inside) == 1 and inside[0].is_dir() else fresh
    top.rename(work.tree)
    shutil.rmtree(fresh, ignore_errors=True)


def _unpack_commit(repository: Path, commit: str, into: Path) -> None:
    with (
        run.spawn(
            ["git", "-C", repository, "archive", "--format=tar", commit], stderr=subprocess.DEVNULL
        ) as git,
        run.spawn(
            ["tar", "--extract", "--no-same-owner", f"--directory={into}"],
            stdin=git.stdout.fileno() if git.stdout else None,
        ) as tar,
    ):
        said = tar.communicate()[0].decode(errors="replace").strip()
        if tar.returncode != 0 or git.wait() != 0:
            why = said.rpartition("\n")[2] or "git archive failed"
            raise InfrastructureError(f"the commit {commit} of {repository} cannot be unpacked: {why}")


def _copy(work: WorkTree, known: dict[str, list[str]] | None, progress: Step) -> dict[str, list[str]]:
    wanted = work.source.files
    assert wanted is not None  # noqa: S101 -- a local tree
    touched = set(_touched(work))
    work.tree.mkdir(exist_ok=True)
    snapshot.mirror(
        wanted,
        into=work.tree,
        known=None if known is None else {path: Content(*content) for path, content in known.items()},
        place=lambda path: (work.folder / "orig" if path in touched else work.tree) / path,
        progress=progress,
    )
    if (work.tree / ".config").exists() or (work.tree / "include" / "config").exists():
        progress.update(None, "it was built in place: make mrproper in the copy")
        make = Make(work.tree, work.tree)
        make.stream(make.clean_argv(), log=work.folder / "mrproper.log")
    return {path: [content.mode, content.sha256] for path, content in wanted.contents.items()}


def _patch(work: WorkTree, patches: Sequence[Patch]) -> None:
    """Make the touched files in `tree/` what the series makes of their originals."""
    orig, stage = work.folder / "orig", work.folder / "stage"
    wanted = {path for patch in patches for path in patch.touches}
    before = set(_touched(work))
    for path in sorted(wanted - before):
        (orig / path).unlink(missing_ok=True)
        _transfer(work.tree / path, orig / path)
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    for path in sorted(wanted):
        _transfer(orig / path, stage / path)
    for patch in patches:
        series.apply(patch, folder=stage, version=work.source.version)
    _record(work, before | wanted)
    for path in sorted(before | wanted):
        result = (stage if path in wanted else orig) / path
        if not _transfer(result, work.tree / path):
            (work.tree / path).unlink(missing_ok=True)
    _record(work, wanted)
    for path in before - wanted:
        (orig / path).unlink(missing_ok=True)
    shutil.rmtree(stage)


def _transfer(source: Path, target: Path) -> bool:
    """Make `target` equal to `source`; False if there is no `source`."""
    try:
        mode = snapshot.mode_of(source.lstat())
    except FileNotFoundError:
        return False
    data = os.fsencode(source.readlink()) if mode == "l" else source.read_bytes()
    snapshot.put(target, data, mode)
    return True


def _touched(work: WorkTree) -> list[str]:
    names: list[str] = _read(work.folder / "touched.json").get("touched", [])
    return names


def _record(work: WorkTree, touched: set[str]) -> None:
    files.write_json(work.folder / "touched.json", {"touched": sorted(touched)})


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = files.read_json(path)
    except (OSError, ValueError):
        return {}
    return content
