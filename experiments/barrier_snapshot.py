# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a guest whose training process waits at its barrier.

Booting, importing the framework and building a graph take a minute under emulation and are the same for every
cell of a model. Restoring a snapshot takes seconds, and every repeat starts from the same state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments import frameworks, guest_code, job
from experiments.job import Work
from testbed import vm
from testbed.common import files, settings
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.progress import step
from testbed.guestlink import keys
from testbed.host import accel
from testbed.vm import Boot, SavedVm, snapshot

FORMAT = 5  # increment it when anything before the barrier changes


def key(boot: Boot, work: Work, library: Path | None) -> str:
    """The cache key: everything that determines the guest's memory at the barrier."""
    return files.sha256_json(
        {
            "format": FORMAT,
            "uses": [[e.kind, e.key] for e in boot.uses],
            "machine": boot.machine.model_dump(mode="json"),
            "accelerator": boot.accelerator,
            "qemu": accel.qemu_version(settings.QEMU.get()),
            "code": guest_code.digest(),
            "ssh_public_key": keys.public_key(),
            "job": work.key(),
            "runtime": None if library is None else files.sha256_file(library),
            # The model clock is a device of the machine. Costs of memory are set after the barrier.
            "clock": boot.preset is not None,
        }
    )


def runtime_digest(library: Path | None) -> str:
    """Return a digest of what runs in the guest: the code, and the runtime if it is loaded."""
    return files.sha256_json([guest_code.digest(), None if library is None else files.sha256_file(library)])


def ensure_barrier_snapshot(
    boot: Boot, work: Work, *, name: str, cache: Cache, uri: str | None = None
) -> Entry:
    """Return the snapshot in which the process for `work` waits; create it if it is not cached.

    `name` is the name of the machine that creates it.
    """
    library = frameworks.DEFAULT.build_runtime(cache=cache) if work.runtime else None

    def fill(folder: Path) -> tuple[SavedVm, dict[str, Any]]:
        with vm.running(name, boot, uri=uri) as machine:
            machine.wait_ready()
            with machine.shell() as shell:
                seconds = job.prepare(
                    shell, machine.watchdog(), work, within=machine.limits.prepare, library=library
                )
                # Cached file pages would only enlarge the snapshot.
                shell.run("sync; echo 1 >/proc/sys/vm/drop_caches")
            return machine.save(folder), {
                "description": f"{work.name} at its barrier",
                "guest_s": seconds,
                "runtime": runtime_digest(library),
            }

    with step(f"Guest with {work.name} ready to train") as s:
        snapshot_key = key(boot, work, library)
        entry = cache.get(snapshot.KIND, snapshot_key)
        if entry is not None:
            s.done("cached")
            return entry
        return snapshot.build(snapshot_key, fill, cache=cache)
