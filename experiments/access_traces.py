# SPDX-License-Identifier: Apache-2.0
"""Access traces of training processes, recorded in a guest and cached (sentinel/replay/trace.py).

A trace belongs to a barrier snapshot and to the plugin that wrote it. It holds accesses, not times, so that
it serves every preset. It is recorded in slow memory, in the step before those of the profile.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

from experiments import policies, profiles
from sentinel.replay import trace as traces
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.errors import InfrastructureError
from testbed.common.progress import step
from testbed.timing import counters, plugin
from testbed.timing.preset import Preset
from testbed.vm import Vm, snapshot

KIND = "access-trace"
FORMAT = 4
FILE = "trace.npz"
_IN_GUEST = "/run/sentinel/traced"
_STEPS = 1 + profiles.PROFILED_STEPS


def ensure_trace(
    waiting: Entry, preset: Preset, *, work: str, name: str, cache: Cache, uri: str | None = None
) -> Path:
    """Return the access trace of the process in a barrier snapshot; record it if it is not cached.

    `work` is the name of the model or script. The snapshot's process must have the runtime, and one kind of
    step, or several in each step of a model. Raises `UsageError` if the step cannot be traced.
    """
    key = files.sha256_json({"format": FORMAT, "snapshot": waiting.key, "plugin": plugin.source_digests()})
    saved = snapshot.load(waiting, cache=cache)

    def fill(folder: Path) -> dict[str, Any]:
        order = policies.get("slow-only").order()
        order |= {"warmup": 1, "steps": _STEPS, "profile": _IN_GUEST, "trace": True}
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            raw, profiled = Path(scratch) / "raw.gz", Path(scratch) / "profiles"

            def collect(machine: Vm, shell: Any) -> None:
                shell.get(_IN_GUEST, profiled)
                raw.write_bytes(_trace_file(machine.counters_path).read_bytes())

            profiles.train(saved.with_preset(preset), order, name=name, uri=uri, then=collect)
            header = {"name": work, "snapshot": waiting.key, "preset": preset.description}
            traces.write(folder / FILE, traces.from_recording(raw, _read(profiled), header))
        return {"description": f"accesses of a step of {work}"}

    entry = cache.get(KIND, key)
    if entry is None:
        with step(f"Tracing a step of {work}"):
            entry = cache.build(KIND, key, fill)
    return entry.path / FILE


def _trace_file(log: Path) -> Path:
    """The trace that the timing model wrote beside its counters. Raises `InfrastructureError`."""
    written = [record["trace"] for record in counters.read(log) if "trace" in record]
    if len(written) != 1 or written[0] is None:
        raise InfrastructureError(
            "the timing model wrote no trace",
            hint="check that the disk of the state folder is not full",
            log=log.with_name("qemu.log"),
        )
    return log.with_name(written[0])


def _read(folder: Path) -> dict[str, Any]:
    """The profiles in a folder as JSON, by kind."""
    return {
        kind: json.loads(gzip.decompress(path.read_bytes()))
        for kind, path in profiles.by_kind(folder).items()
    }
