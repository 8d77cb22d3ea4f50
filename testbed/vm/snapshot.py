# SPDX-License-Identifier: Apache-2.0
"""Saved machines as cache entries of the kind `snapshot`. Each can be restored any number of times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from testbed.common import files, settings
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.errors import UsageError
from testbed.guestlink import keys
from testbed.vm.boot import Boot, SavedVm
from testbed.vm.handle import Vm
from testbed.vm.store import check_name

KIND = "snapshot"


def build(key: str, save: Callable[[Path], tuple[SavedVm, dict[str, Any]]], *, cache: Cache) -> Entry:
    """Return the snapshot with this key; create it with `save` if the cache has none.

    `save` saves a machine into the folder it gets, and returns the machine and further keys of the manifest.
    """

    def fill(folder: Path) -> dict[str, Any]:
        saved, further = save(folder)
        return {**further, **_manifest(saved)}

    return cache.build(KIND, key, fill)


def take(machine: Vm, name: str, *, cache: Cache) -> Entry:
    """Save a running machine as the snapshot `name`, and end it. Raises `UsageError` if it exists."""
    key = cache_key(name)
    if cache.get(KIND, key) is not None:
        raise UsageError(f"the snapshot {name!r} exists already", hint=f"sentinel cache prune --key {key}")
    return build(key, lambda folder: (machine.save(folder), {"name": name}), cache=cache)


def find(name: str, *, cache: Cache) -> SavedVm:
    """Return the snapshot that `take` saved as `name`. Raises `UsageError` that lists the existing ones."""
    entry = cache.get(KIND, cache_key(name))
    if entry is None:
        names = [str(e.manifest["name"]) for e in cache.entries() if e.kind == KIND and "name" in e.manifest]
        raise UsageError(f"no snapshot {name!r}; existing snapshots: {', '.join(sorted(names)) or 'none'}")
    return load(entry, cache=cache)


def load(entry: Entry, *, cache: Cache) -> SavedVm:
    """Return the saved machine in a cache entry.

    Raises `UsageError` if its guest has the SSH key of another testbed: this one could not log in.
    """
    if entry.manifest.get("ssh_public_key") != keys.public_key():
        raise UsageError(
            f"the guest in snapshot {entry.manifest.get('name', entry.key)!r} has another SSH key",
            hint=f"set {settings.STATE.env} as it was when the snapshot was taken, or take it again",
        )
    boot = Boot.from_json(entry.manifest["boot"], cache=cache)
    return SavedVm(
        boot=replace(boot, uses=(*boot.uses, entry)),
        memory=entry.path / "memory",
        disk=entry.path / "disk.qcow2",
        console=entry.path / "console.log",
        name=entry.manifest["boot"]["name"],
        uuid=entry.manifest["boot"]["uuid"],
    )


def cache_key(name: str) -> str:
    """Return the cache key of the snapshot `name`. Raises `UsageError` for an invalid name."""
    check_name(name, "snapshot")
    return f"named-{files.sha256_json(name)[:8]}-{name}"


def _manifest(saved: SavedVm) -> dict[str, Any]:
    boot = saved.boot
    return {
        "needs": [f"{e.kind}/{e.key}" for e in boot.uses],
        "boot": {**boot.to_json(), "name": saved.name, "uuid": saved.uuid},
        "ssh_public_key": keys.public_key(),
        "memory_bytes": files.disk_usage(saved.memory),
    }
