# SPDX-License-Identifier: Apache-2.0
"""Work trees: patched copies of kernel sources, kept between builds so that builds are incremental.

    scratch/kernel-<name>-<id>/
        tree/                the source with the series applied
        tree.json            marks `tree/` as complete, with the digest of its source; written last
        orig/                pristine copies of the patched files
        touched.json         their names
        stage/               the series is applied here before `tree/` changes
        build/<flavour>/     make's output (O=)

Files are written only if their content changes, so make rebuilds only what an edited patch or source affects.
The user's own tree is never written.
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

from kernel import series, tree_digest
from kernel.kbuild import Kbuild
from kernel.series import Patch
from kernel.source import Source
from kernel.tree_digest import FileDigest
from testbed.common import files, run
from testbed.common.cache import Cache, work_lock
from testbed.common.errors import InfrastructureError
from testbed.common.progress import Step, note, step


@dataclass(frozen=True)
class WorkTree:
    """A locked work tree."""

    source: Source
    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def output(self, flavour: Sequence[str]) -> Path:
        """Return make's output folder for a set of fragments."""
        path = self.folder / "build" / "+".join(flavour)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def kbuild(self, flavour: Sequence[str], *, local_version: str = "") -> Kbuild:
        return Kbuild(self.tree, self.output(flavour), self.source.spec.cflags, local_version)


@contextlib.contextmanager
def opened(source: Source, patches: Sequence[Patch], *, cache: Cache) -> Iterator[WorkTree]:
    """Lock the work tree of `source`, with exactly `patches` applied.

    Raises BuildError if a patch does not apply; the tree is then unchanged.
    """
    folder = cache.root / "scratch" / folder_name(source)
    message = f"waiting for another build of Linux {source.name} in {folder}"
    with files.locked(work_lock(folder), on_wait=lambda: note(message)):
        cache.work(folder.name)
        work = WorkTree(source, folder)
        _fill(work)
        _patch(work, patches)
        yield work


def folder_name(source: Source) -> str:
    """Return the folder of a source: one per archive, commit, and path of a local tree."""
    identity = str(source.path) if source.kind == "tree" else source.digest
    return f"kernel-{source.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _fill(work: WorkTree) -> None:
    """Bring `tree/` (except patched files) and `orig/` to the state of the source."""
    marker = work.folder / "tree.json"
    state = files.read_state(marker)
    if state.get("digest") == work.source.digest:
        return
    marker.unlink(missing_ok=True)
    if work.source.files is None:
        with step(f"Unpacking Linux {work.source.version}"):
            _unpack(work)
        contents = {}
    else:
        with step(f"Copying Linux {work.source.version}") as s:
            contents = _copy(work, state.get("contents"), s)
    os.sync()  # after a power failure there must be no marker without its tree
    files.write_json(marker, {"digest": work.source.digest, "contents": contents})


def _unpack(work: WorkTree) -> None:
    fresh = work.folder / "tree.new"
    for stale in (fresh, work.tree, work.folder / "orig"):
        shutil.rmtree(stale, ignore_errors=True)
    (work.folder / "touched.json").unlink(missing_ok=True)
    fresh.mkdir()
    source = work.source
    assert source.path is not None  # noqa: S101 -- obtained before
    if source.kind == "git":
        _unpack_commit(source.path, source.digest.removeprefix("git:"), fresh)
    else:
        # Keeps the archive's times, which are older than any object built from it.
        run.run(["tar", "--extract", "--no-same-owner", f"--file={source.path}", f"--directory={fresh}"])
    entries = list(fresh.iterdir())
    top = entries[0] if len(entries) == 1 and entries[0].is_dir() else fresh
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
        output = tar.communicate()[0].decode(errors="replace").strip()
        if tar.returncode != 0 or git.wait() != 0:
            reason = output.rpartition("\n")[2] or "git archive failed"
            raise InfrastructureError(f"cannot unpack commit {commit} of {repository}: {reason}")


def _copy(work: WorkTree, copied: dict[str, list[str]] | None, progress: Step) -> dict[str, list[str]]:
    content = work.source.files
    assert content is not None  # noqa: S101 -- a local tree
    touched = set(_touched(work))
    work.tree.mkdir(exist_ok=True)
    tree_digest.mirror(
        content,
        into=work.tree,
        copied=None if copied is None else {path: FileDigest(*file) for path, file in copied.items()},
        place=lambda path: (work.folder / "orig" if path in touched else work.tree) / path,
        progress=progress,
    )
    if (work.tree / ".config").exists() or (work.tree / "include" / "config").exists():
        progress.update(None, "built in place: cleaning the copy with make mrproper")
        make = Kbuild(work.tree, work.tree)
        make.stream(make.clean_argv(), log=work.folder / "mrproper.log")
    return {path: [file.mode, file.sha256] for path, file in content.files.items()}


def _patch(work: WorkTree, patches: Sequence[Patch]) -> None:
    """Apply the series: write the patched files into `tree/`, and restore those no longer patched."""
    orig, stage = work.folder / "orig", work.folder / "stage"
    touched = {path for patch in patches for path in patch.touches}
    before = set(_touched(work))
    for path in sorted(touched - before):
        (orig / path).unlink(missing_ok=True)
        _copy_file(work.tree / path, orig / path)
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    for path in sorted(touched):
        _copy_file(orig / path, stage / path)
    for patch in patches:
        series.apply(patch, folder=stage, version=work.source.version)
    _record(work, before | touched)
    for path in sorted(before | touched):
        result = (stage if path in touched else orig) / path
        if not _copy_file(result, work.tree / path):
            (work.tree / path).unlink(missing_ok=True)
    _record(work, touched)
    for path in before - touched:
        (orig / path).unlink(missing_ok=True)
    shutil.rmtree(stage)


def _copy_file(source: Path, target: Path) -> bool:
    """Make `target` equal to `source`. Returns False if `source` does not exist."""
    try:
        mode = tree_digest.mode_of(source.lstat())
    except FileNotFoundError:
        return False
    data = os.fsencode(source.readlink()) if mode == "l" else source.read_bytes()
    tree_digest.write_if_changed(target, data, mode)
    return True


def _touched(work: WorkTree) -> list[str]:
    names: list[str] = files.read_state(work.folder / "touched.json").get("touched", [])
    return names


def _record(work: WorkTree, touched: set[str]) -> None:
    files.write_json(work.folder / "touched.json", {"touched": sorted(touched)})
