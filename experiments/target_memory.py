# SPDX-License-Identifier: Apache-2.0
"""The memory of a target: whether pages can be placed there, and how fast both nodes are."""

from __future__ import annotations

import json
import shlex
from typing import Any

from experiments import guest_code
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import InfrastructureError, WorkloadError
from testbed.common.progress import step
from testbed.guestlink.shell import Shell
from testbed.targets.facts import Facts
from testbed.timing import calibration, measurement
from testbed.timing.calibration import Calibration

_LLC = 32 << 20  # bytes, if the target does not say
_STREAM_FACTOR = 8  # streams are so many times larger than the cache
_PROBE = "/run/sentinel/probe"
_WITHIN = 600.0
_FORMAT = 1
# Places pages as the policies do, on the nodes that are its arguments
_PLACE = """
import sys
sys.path.insert(0, sys.argv[1])
from guest.bindings import memory
nodes = [int(node) for node in sys.argv[2:]]
memory.place("interleave", nodes)
memory.place("bind", nodes[-1:])
"""


def check_permissions(shell: Shell, *, two_nodes: bool) -> None:
    """Place pages on the nodes of a target, in the image's root file system.

    Raises `InfrastructureError` if the target refuses set_mempolicy(2), move_pages(2) or migrate_pages(2).
    """
    guest_code.deploy(shell)
    nodes = "0 1" if two_nodes else "0"
    result = shell.run(f"python2.7 - {guest_code.FOLDER} {nodes}", check=False, timeout=60, stdin=_PLACE)
    if result.code:
        reason = (result.err.strip() or f"status {result.code}").splitlines()[-1]
        raise InfrastructureError(
            f"{shell.place} does not let pages be placed: {reason}",
            hint="containers need CAP_SYS_NICE, and a seccomp profile that allows move_pages",
        )


def calibrate(facts: Facts, shell: Shell, *, cache: Cache, place: str = _PROBE) -> Calibration:
    """Measure both nodes with the probe that machines are calibrated with, unless that is cached.

    The probe is copied to the path `place`. Raises `InfrastructureError` if the probe fails.
    """
    probe = measurement.build_probe(cache=cache)
    cache_bytes = facts.cache or _LLC
    described = {
        "format": _FORMAT,
        "probe": files.sha256_file(probe),
        "machine": [facts.id, facts.cpu, facts.cpus, facts.release, facts.version],
        "nodes": [[node.number, node.total, node.cpus] for node in facts.nodes],
        "place": shell.place,
    }
    key = files.sha256_json(described)

    def fill(folder: Any) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        with step(f"Measuring the memory of {shell.place}"):
            shell.put(probe, place)
            try:
                shell.run(
                    f"{shlex.quote(place)} full {cache_bytes} {_STREAM_FACTOR * cache_bytes}",
                    timeout=_WITHIN,
                    on_line=lambda line: rows.append(json.loads(line)),
                )
            except WorkloadError as e:
                raise InfrastructureError(f"the memory probe failed: {e.message}") from None
        files.write_json(folder / "rows.json", rows)
        return {"mode": "hardware"}

    entry = cache.get(measurement.KIND, key) or cache.build(measurement.KIND, key, fill)
    rows = files.read_json(entry.path / "rows.json")
    return calibration.evaluate(None, rows, key=key, created=str(entry.manifest["created"]))


def described(measured: Calibration) -> str:
    """What was measured, in words."""
    fast, slow = measured.measured(0), measured.measured(1)
    return (
        f"node 0 reads in {fast['read_latency']:.0f} ns at {fast['read']:.1f} GB/s, "
        f"node 1 in {slow['read_latency']:.0f} ns at {slow['read']:.1f} GB/s"
    )


def is_slower(measured: Calibration) -> bool:
    """Return whether node 1 is slower than node 0 beyond the error of the measurement."""
    fast, slow = measured.measured(0), measured.measured(1)
    bound = calibration.BOUNDS["bandwidth"]
    return slow["read_latency"] > fast["read_latency"] * (1 + bound) or slow["read"] < fast["read"] * (
        1 - bound
    )
