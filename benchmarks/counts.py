# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the kernel's page counts in a profiled step, against the timing model's exact counts.

    python benchmarks/counts.py cnn lstm resnet20

In the profiled step every tensor has its own pages. The kernel counts page accesses; the timing model counts
every access and every LLC miss. Prints, over the tensors of at least a page, the rank correlation of counts
per page, and the overlap of the hottest fifth of bytes by exact counts and by kernel counts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas

from experiments import barrier_snapshot, boot, job, models, policies, profiles
from experiments.job import Work
from results.accuracy import overlap, rank_correlation
from sentinel.planner.formats import files
from sentinel.planner.timing.cost import estimate_traffic
from testbed import machine, vm
from testbed.common.cache import Cache
from testbed.timing import preset
from testbed.vm import snapshot

Floats = npt.NDArray[np.float64]
NAME = "bench-counts"
_IN_GUEST = "/run/sentinel/profiles"


def observed(artifacts: boot.Artifacts, model: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """Return the profile of a model, and the exact counts of the same step."""
    cache = Cache()
    work = Work(model=model, seed=7, threads=1, runtime=True)
    entry = barrier_snapshot.ensure_barrier_snapshot(artifacts.boot, work, name=NAME, cache=cache)
    saved = snapshot.load(entry, cache=cache).with_preset(artifacts.boot.preset)
    order = {
        **policies.get("slow-only").order(),
        "warmup": 1,
        "steps": profiles.PROFILED_STEPS,
        "profile": _IN_GUEST,
        "observe": True,
    }
    with vm.running(NAME, saved) as guest, guest.shell() as shell:
        job.release(shell, guest.watchdog(), order, lambda _: None, per_step=guest.limits.step)
        shell.get(_IN_GUEST, folder / "profiles")
        counts = sorted(guest.counters_path.parent.glob("pages-*.csv"))[-1]
        (folder / "pages.csv").write_text(counts.read_text())
    (profile,) = (folder / "profiles").iterdir()
    return profile, folder / "pages.csv"


def compare(profile_path: Path, pages_path: Path, cache: preset.Cache) -> dict[str, Any]:
    """Compare two estimates with the exact counts per tensor: the kernel's counts, and the planner's estimate
    of bytes read with this cache.
    """
    profile = files.read_profile(profile_path)
    rows: list[dict[str, Any]] = json.loads(gzip.decompress(profile_path.read_bytes()))["tensors"]
    pages = pandas.read_csv(pages_path).set_index("page").sort_index()
    number = pages.index.to_numpy()
    t, page = profile.tensors, profile.page_bytes
    sums = {name: np.concatenate(([0.0], np.cumsum(pages[name]))) for name in pages.columns}
    chosen = np.flatnonzero((t.size >= page) & (t.accesses > 0) & (t.birth >= 0))
    start = np.array([rows[i]["address"] for i in chosen], dtype=np.int64)
    first = np.searchsorted(number, start // page * page)
    after = np.searchsorted(number, start + t.size[chosen])

    def exact(*names: str) -> Floats:
        return sum((sums[name][after] - sums[name][first] for name in names), np.zeros(len(chosen)))

    touched = np.maximum(1, -(-t.resident_bytes[chosen] // page))
    kernel, size = t.accesses[chosen] / touched, t.resident_bytes[chosen].astype(np.float64)
    result: dict[str, Any] = {"tensors": len(chosen), "bytes": int(t.resident_bytes[chosen].sum())}
    for event, names in (("accesses", ("reads", "writes")), ("misses", ("misses0", "misses1"))):
        truth = exact(*names) / touched
        result[event] = {
            "rank_correlation": rank_correlation(kernel, truth),
            "hottest": overlap(kernel, truth, size),
        }
    read, _ = estimate_traffic(profile, cache.size)
    estimated: Floats = np.bincount(profile.uses.tensor, weights=read, minlength=len(t))[chosen].astype(float)
    missed = exact("misses0", "misses1") * float(cache.line)
    result["planner"] = {
        "rank_correlation": rank_correlation(estimated, missed),
        "hottest": overlap(estimated / size, missed / size, size),
        "read_bytes": float(estimated.sum()),
        "missed_bytes": float(missed.sum()),
        "in_common": float(np.minimum(estimated, missed).sum() / max(1.0, missed.sum())),
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", choices=models.names())
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--keep", type=Path, help="folder to keep profiles and exact counts in")
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--preset", default="optane-6dimm")
    options = parser.parse_args()
    modelled = preset.load(options.preset)
    artifacts = boot.prepare(machine.load("two-node"), preset=modelled, kernel=options.kernel)
    for name in options.models:
        model = models.resolve(name, batch=options.batch)
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.keep / name if options.keep else Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            comparison = compare(*observed(artifacts, model, folder), modelled.cache)
        print(name, json.dumps(comparison), flush=True)


if __name__ == "__main__":
    main()
