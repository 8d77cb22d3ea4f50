# SPDX-License-Identifier: Apache-2.0
"""Saved machines as cache entries (kind `snapshot`): restored in seconds, as often as one likes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from testbed import vm
from testbed.common import files, settings
from testbed.common.cache import Cache, Entry
from testbed.common.errors import UsageError
from testbed.guestlink import keys
from testbed.vm import Saved, Vm

KIND = "snapshot"


def make(key: str, fill: Callable[[Path], tuple[Saved, dict[str, Any]]], *, cache: Cache) -> Entry:
    """The snapshot of that key, made by `fill` if it is not there.

    `fill` saves a machine into the folder it is given and returns it with what else the manifest shall say.
    """

    def build(folder: Path) -> dict[str, Any]:
        saved, more = fill(folder)
        return {**more, **_manifest(saved)}

    return cache.build(KIND, key, build)


def take(machine: Vm, name: str, *, cache: Cache) -> Entry:
    """Save a running machine under a name a person gave; the machine is gone afterwards."""
    key = named(name)
    if cache.get(KIND, key) is not None:
        raise UsageError(f"there is a snapshot {name!r} already", hint=f"sentinel cache prune --key {key}")
    return make(key, lambda folder: (machine.save(folder), {"name": name}), cache=cache)


def find(name: str, *, cache: Cache) -> Saved:
    """The snapshot a person named. Raises `UsageError` telling which there are."""
    entry = cache.get(KIND, named(name))
    if entry is None:
        there = [str(e.manifest["name"]) for e in cache.entries() if e.kind == KIND and "name" in e.manifest]
        raise UsageError(f"there is no snapshot {name!r}; there are: {', '.join(sorted(there)) or 'none'}")
    return load(entry, cache=cache)


def load(entry: Entry, *, cache: Cache) -> Saved:
    """What to give `vm.start` to restore a snapshot.

    Raises `UsageError` if its guest lets another testbed's key in: nobody here could reach it.
    """
    if entry.manifest["lets_in"] != keys.public_key():
        raise UsageError(
            f"the snapshot {entry.manifest.get('name', entry.key)!r} was made with another SSH key",
            hint=f"use the {settings.STATE.env} it was made with, or make it again",
        )
    boot = vm.load_boot({**entry.manifest["boot"], "cache": str(cache.root)})
    return Saved(
        boot=replace(boot, uses=(*boot.uses, entry)),
        memory=entry.path / "memory",
        disk=entry.path / "disk.qcow2",
        console=entry.path / "console.log",
        name=entry.manifest["boot"]["name"],
        uuid=entry.manifest["boot"]["uuid"],
    )


def named(name: str) -> str:
    """The cache key of a snapshot with a name. Raises `UsageError` if it is no name."""
    if not vm.NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a snapshot", hint=vm.NAME_HINT)
    return f"named-{files.sha256_json(name)[:8]}-{name}"


def _manifest(saved: Saved) -> dict[str, Any]:
    boot = saved.boot
    return {
        "needs": [f"{e.kind}/{e.key}" for e in boot.uses],
        "boot": {**boot.described(), "name": saved.name, "uuid": saved.uuid},
        "lets_in": keys.public_key(),
        "memory_bytes": files.disk_usage(saved.memory),
    }
