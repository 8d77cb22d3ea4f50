# SPDX-License-Identifier: Apache-2.0
"""An entry of the artefact cache: its manifest, and whether its files agree with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.common import files

MARKER = "manifest.json"
CONTENT = "content"  # of a manifest: {path: {"size": bytes, "sha256": hex}}
FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """A finished artefact. `needs` names the entries ("kind/key") that it depends on."""

    kind: str
    key: str
    path: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.key}"

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(self.manifest.get("needs", ()))

    @property
    def last_used(self) -> float:
        """Time of the last use, in seconds since the epoch."""
        return (self.path / MARKER).stat().st_mtime

    def size(self) -> int:
        """Bytes on disk."""
        return files.disk_usage(self.path)


@dataclass(frozen=True)
class Damaged:
    """An entry that differs from its manifest, and why."""

    kind: str
    key: str
    path: Path
    why: str

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.key}"

    def size(self) -> int:
        """Bytes on disk."""
        return files.disk_usage(self.path)


def read(path: Path) -> Entry | Damaged | None:
    """Read the entry in the folder `<kind>/<key>`; None if it is absent, or of another format."""
    kind, key = path.parent.name, path.name
    try:
        manifest = files.read_json(path / MARKER)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError):
        return Damaged(kind, key, path, f"{MARKER}: it is not JSON")
    except OSError as e:
        return Damaged(kind, key, path, f"{MARKER}: {e.strerror}")
    why = _malformed(manifest)
    if why is not None:
        return Damaged(kind, key, path, f"{MARKER}: {why}")
    if manifest.get("format") != FORMAT:
        return None
    entry = Entry(kind, key, path, manifest)
    why = manifest.get("damaged") or difference(entry, largest=-1)
    return entry if why is None else Damaged(kind, key, path, why)


def content_of(folder: Path) -> dict[str, dict[str, object]]:
    """Return sizes and digests of the files of an entry."""
    return {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": files.sha256_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def difference(entry: Entry, *, largest: int | None) -> str | None:
    """Describe the first file that differs from the manifest: in size, or if small enough in content."""
    for name, built in entry.manifest.get(CONTENT, {}).items():
        path = entry.path / name
        try:
            size = path.stat().st_size
            if size != built["size"]:
                return f"{name}: it has {size} bytes, and was built with {built['size']}"
            small = largest is None or size <= largest
            if small and files.sha256_file(path) != built["sha256"]:
                return f"{name}: its content is not what was built"
        except OSError as e:
            return f"{name}: {e.strerror}"
    return None


def _malformed(manifest: object) -> str | None:
    """Describe what is wrong with the fields of a manifest that the cache reads."""
    if not isinstance(manifest, dict):
        return "it is not an object"
    needs = manifest.get("needs", [])
    if not isinstance(needs, list) or not all(isinstance(need, str) and "/" in need for need in needs):
        return "`needs` is not a list of entries"
    content = manifest.get(CONTENT, {})
    if not isinstance(content, dict) or not all(
        isinstance(built, dict) and {"size", "sha256"} <= built.keys() for built in content.values()
    ):
        return f"`{CONTENT}` does not list files"
    if not isinstance(manifest.get("damaged", ""), str):
        return "`damaged` is not text"
    return None
