# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a guest whose training process waits at its barrier: what makes a sweep cheap.

Booting, importing TensorFlow and building a graph take a minute under emulation and are the same for every
cell of a model; a restore takes seconds, and every repeat starts from the very same state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments import job
from sentinel.runtime import build as runtime
from testbed import vm
from testbed.common import files, settings
from testbed.common.cache import Cache, Entry
from testbed.common.progress import step
from testbed.guestlink import keys
from testbed.host import accel
from testbed.vm import Boot, Saved, snapshot

FORMAT = 3  # raise it when what happens before the barrier changes


def key(boot: Boot, work: dict[str, Any]) -> str:
    """The cache key: everything that decides what the guest's memory holds at the barrier."""
    return files.sha256_json(
        {
            "format": FORMAT,
            "uses": [[e.kind, e.key] for e in boot.uses],
            "machine": boot.machine.model_dump(mode="json"),
            "accelerator": boot.accelerator,
            "qemu": accel.qemu_version(settings.QEMU.get()),
            "code": job.code_digest(),
            "lets_in": keys.public_key(),
            "job": work,
            # The model's clock is a device more; what memory costs is decided after the barrier.
            **({"clock": True} if boot.preset is not None else {}),
        }
    )


def waiting(boot: Boot, work: dict[str, Any], *, name: str, cache: Cache, uri: str | None = None) -> Entry:
    """The snapshot in which the process for `work` waits, made if it is not there.

    `work` is {"model": ..., "seed": ..., "threads": ...}, with {"runtime": true} for one whose tensors the
    Sentinel runtime manages; `name` is the machine's while it is made.
    """
    library = runtime.build(cache=cache) if work.get("runtime") else None

    def fill(folder: Path) -> tuple[Saved, dict[str, Any]]:
        with vm.running(name, boot, uri=uri) as machine:
            machine.wait_ready()
            with machine.shell() as shell:
                seconds = job.prepare(
                    shell, machine.watchdog(), work, within=machine.limits.prepare, runtime=library
                )
                # Pages read once on the way here would only make the snapshot larger.
                shell.run("sync; echo 1 >/proc/sys/vm/drop_caches")
            return machine.save(folder), {
                "description": f"{work['model']['name']} at its barrier",
                "guest_s": seconds,
            }

    with step(f"Guest with {work['model']['name']} ready to train") as s:
        wanted = key(boot, work if library is None else {**work, "runtime": files.sha256_file(library)})
        entry = cache.get(snapshot.KIND, wanted)
        if entry is not None:
            s.done("cached")
            return entry
        return snapshot.make(wanted, fill, cache=cache)
