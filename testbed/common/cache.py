# SPDX-License-Identifier: Apache-2.0
"""The artefact cache: content-keyed folders that are complete or absent.

    <root>/<kind>/<key>/manifest.json    an entry; `manifest.json` is its marker, written last
    <root>/<kind>/.<key>.lock            shared lock of users, exclusive lock of the builder
    <root>/scratch/<name>/               scratch that builders keep between builds (source trees, objects);
                                         writers hold `work_lock`

An entry is built in a temporary folder and renamed. So an interrupted build is never taken for a finished
one, and two builders of one key build it once.

A manifest lists the files of its entry. If the size of one differs, or the manifest is unreadable, the entry
is damaged: it counts as missing and is rebuilt. Contents are compared only after a failure (`condemn`).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.common import cache_entry, files, settings
from testbed.common.cache_entry import CONTENT, FORMAT, MARKER, Damaged, Entry, content_of, difference
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import InfrastructureError
from testbed.common.progress import note, warn


class Cache:
    """All entries below one folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or settings.cache_root()
        self._reported: set[str] = set()  # names of damaged entries

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def work(self, name: str) -> Path:
        """Return a scratch folder; writers hold its `work_lock`."""
        path = self.root / "scratch" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def get(self, kind: str, key: str) -> Entry | None:
        """Return a finished entry and mark it as used; None if it or one that it needs is missing."""
        entry = cache_entry.read(self.path(kind, key))
        if isinstance(entry, Damaged):
            self._report(entry)
            return None
        if entry is not None and not all(self.get(*need.split("/", 1)) for need in entry.needs):
            return None
        if entry is not None:
            with contextlib.suppress(OSError):
                os.utime(entry.path / MARKER)
        return entry

    def entries(self) -> list[Entry]:
        """Return every finished entry, least recently used first."""
        return self._survey()[0]

    def damaged(self) -> list[Damaged]:
        """Return every damaged entry."""
        return self._survey()[1]

    def _survey(self) -> tuple[list[Entry], list[Damaged]]:
        intact: list[tuple[float, str, Entry]] = []
        damaged: list[Damaged] = []
        for marker in sorted(self.root.glob(f"*/*/{MARKER}")):
            folder = marker.parent
            if folder.name.startswith(".") or folder.parent.name == "scratch":
                continue
            entry = cache_entry.read(folder)
            if isinstance(entry, Damaged):
                damaged.append(entry)
            elif entry is not None:
                with contextlib.suppress(FileNotFoundError):  # it is being pruned
                    intact.append((entry.last_used, entry.name, entry))
        return [entry for _, _, entry in sorted(intact, key=lambda item: item[:2])], damaged

    def condemn(self, *entries: Entry, largest: int | None = None) -> list[Damaged]:
        """Compare the contents of `entries` with their manifests; mark and return the damaged ones.

        Files of more than `largest` bytes are compared by size only.
        """
        damaged = []
        for entry in entries:
            why = difference(entry, largest=largest)
            if why is not None:
                with contextlib.suppress(OSError):
                    files.write_json(entry.path / MARKER, {**entry.manifest, "damaged": why})
                damaged.append(Damaged(entry.kind, entry.key, entry.path, why))
        return damaged

    def build(
        self,
        kind: str,
        key: str,
        fill: Callable[[Path], dict[str, Any]],
    ) -> Entry:
        """Return the entry with this key; build it if it is missing.

        `fill` fills an empty folder and returns the manifest. If it raises, nothing remains.
        """
        entry = self.get(kind, key)
        if entry is not None:
            return entry
        with (
            explained_disk_errors(self.path(kind, key)),
            files.locked(
                self._lock(kind, key),
                on_wait=lambda: note(f"waiting for another process to finish {kind} {key[:12]}"),
            ),
        ):
            entry = self.get(kind, key)  # another process may have built it meanwhile
            if entry is not None:
                return entry
            final = self.path(kind, key)
            for stale in final.parent.glob(
                f".{key}.tmp-*"
            ):  # this process holds the lock: their builder has exited
                shutil.rmtree(stale, ignore_errors=True)
            tmp = files.new_folder(final.parent, f".{key}.tmp-")
            try:
                manifest = fill(tmp)
                created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                head = {"format": FORMAT, "kind": kind, "key": key, "created": created}
                files.write_json(tmp / MARKER, {**head, **manifest, CONTENT: content_of(tmp)})
                if final.exists():  # damaged, or a folder without manifest
                    shutil.rmtree(final)
                tmp.rename(final)
            except BaseException:
                shutil.rmtree(tmp, ignore_errors=True)
                raise
        entry = self.get(kind, key)
        if entry is None:
            raise InfrastructureError(f"the cache entry {kind}/{key} vanished during its build")
        return entry

    @contextlib.contextmanager
    def using(self, *entries: Entry) -> Iterator[None]:
        """Protect `entries` from pruning during the block. Raises `InfrastructureError` if one is gone."""
        with contextlib.ExitStack() as stack:
            for entry in entries:
                stack.enter_context(files.locked(self._lock(entry.kind, entry.key), shared=True))
                if not isinstance(cache_entry.read(self.path(entry.kind, entry.key)), Entry):
                    raise InfrastructureError(
                        f"the cache entry {entry.kind}/{entry.key} was removed meanwhile",
                        hint="run the command again",
                    )
            yield

    def remove(self, entry: Entry | Damaged) -> bool:
        """Remove an entry and its dependents. Returns False if one is in use."""
        if not entry.path.exists():  # removed with an entry that it needed
            return True
        dependents = [e for e in self.entries() if entry.name in e.needs]
        if not all(self.remove(e) for e in dependents):
            return False
        try:
            with files.locked(self._lock(entry.kind, entry.key), block=False):
                doomed = entry.path.with_name(f".{entry.key}.tmp-removed-{os.getpid()}")
                entry.path.rename(doomed)  # atomic, unlike the deletion
                shutil.rmtree(doomed, ignore_errors=True)
        except BlockingIOError:
            return False
        return True

    def prune(
        self,
        *,
        older_than_s: float = 0.0,
        kinds: tuple[str, ...] = (),
        keys: tuple[str, ...] = (),
        work: bool = False,
        dry_run: bool = False,
    ) -> Pruned:
        """Remove unused entries, leftovers of builders that exited, and with `work` the idle scratch folders.

        Selects entries not used for `older_than_s` seconds, of `kinds`, with keys that begin with one of
        `keys` (empty: any). Age does not matter for damaged ones. Dependents of removed entries are removed
        too.
        """
        entries, damaged = self._survey()

        def selected(entry: Entry | Damaged) -> bool:
            return (not kinds or entry.kind in kinds) and (not keys or entry.key.startswith(keys))

        chosen: list[Entry | Damaged] = [
            *(e for e in entries if selected(e) and time.time() - e.last_used >= older_than_s),
            *(e for e in damaged if selected(e)),
        ]
        doomed = {entry.name for entry in chosen}
        while more := {e.name for e in entries if not doomed.isdisjoint(e.needs)} - doomed:
            doomed |= more
        both: list[Entry | Damaged] = [*entries, *damaged]
        sizes = [(entry, entry.size()) for entry in both if entry.name in doomed]
        if dry_run:
            return Pruned([entry for entry, _ in sizes], [], sum(size for _, size in sizes))
        for entry in chosen:
            self.remove(entry)
        removed = [(entry, size) for entry, size in sizes if not entry.path.exists()]
        busy = [entry for entry, _ in sizes if entry.path.exists()]
        freed = sum(size for _, size in removed)
        for stale in self.root.glob("*/.*.tmp-*"):
            key = stale.name[1:].partition(".tmp-")[0]
            with (
                contextlib.suppress(BlockingIOError),
                files.locked(self._lock(stale.parent.name, key), block=False),
            ):
                freed += files.disk_usage(stale)
                shutil.rmtree(stale, ignore_errors=True)
        if work:
            for folder in sorted((self.root / "scratch").glob("[!.]*")):
                with (
                    contextlib.suppress(BlockingIOError),
                    files.locked(work_lock(folder), block=False),
                ):
                    freed += files.disk_usage(folder)
                    shutil.rmtree(folder, ignore_errors=True)
        return Pruned([entry for entry, _ in removed], busy, freed)

    def _report(self, damaged: Damaged) -> None:
        """Warn of a damaged entry once."""
        if damaged.name not in self._reported:
            self._reported.add(damaged.name)
            warn(f"the cache entry {damaged.name} is damaged and not used: {damaged.why}")

    def _lock(self, kind: str, key: str) -> Path:
        return self.root / kind / f".{key}.lock"


@dataclass(frozen=True)
class Pruned:
    """The result of `Cache.prune`; `freed` in bytes."""

    removed: list[Entry | Damaged]
    busy: list[Entry | Damaged]
    freed: int


def work_lock(folder: Path) -> Path:
    """Return the lock file of a scratch folder."""
    return folder.with_name(f".{folder.name}.lock")
