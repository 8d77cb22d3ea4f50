# SPDX-License-Identifier: Apache-2.0
"""Kernels: a source, the patches its version needs and config fragments become a bzImage in the cache.

kernel = build("4.9")
kernel.bzimage, kernel.release
"""

from __future__ import annotations

import gzip
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel import compilation, config, make, tree
from kernel.config import DEFAULT, Request
from kernel.plan import KIND, Plan, plan
from testbed.common import files
from testbed.common.cache import Cache, Entry, explained_disk_errors
from testbed.common.errors import BuildError
from testbed.common.progress import note


@dataclass(frozen=True)
class Kernel:
    """A built kernel; `release` is what its `uname -r` says, `source` its name in sources.yaml."""

    bzimage: Path
    config: Path
    release: str
    source: str
    entry: Entry


def build(
    source: str = "auto",
    *,
    location: str | None = None,
    flavour: tuple[str, ...] = DEFAULT,
    cache: Cache | None = None,
    dry_run: bool = False,
) -> Kernel:
    """The kernel of that source and flavour, built if the cache does not have it.

    `location` is a tree, a tarball or REPOSITORY@COMMIT to use instead of the default of `source`. With
    `dry_run` nothing is built or downloaded: what would be is told, and the result says where it would be. It
    is the kernel that a build now would come to: a source whose server cannot be reached is none.
    Raises UsageError for wrong input, InfrastructureError if no source can be had, BuildError if the build
    fails.
    """
    cache = cache or Cache()
    with explained_disk_errors(cache.root / KIND):
        wanted = plan(source, location=location, flavour=flavour, cache=cache, fetch=not dry_run)
        entry = cache.get(KIND, wanted.key)
        if dry_run:
            _tell(wanted, entry)
            return _kernel(entry or _predicted(wanted, cache))
        return _kernel(entry or cache.build(KIND, wanted.key, lambda folder: _make(wanted, folder, cache)))


def installed(cache: Cache) -> list[Kernel]:
    """All kernels in the cache, the one used last at the end."""
    return [_kernel(entry) for entry in cache.entries() if entry.kind == KIND]


def source_of(source: str, *, location: str | None, flavour: tuple[str, ...] = DEFAULT, cache: Cache) -> str:
    """The name of the source that `build` would take now. Raises what it would raise for want of one."""
    return plan(source, location=location, flavour=flavour, cache=cache, fetch=False).source.name


def requested_config(
    source: str = "auto",
    *,
    location: str | None = None,
    flavour: tuple[str, ...] = DEFAULT,
    cache: Cache | None = None,
) -> dict[str, Request]:
    """What the fragments request of that source's version, by symbol, each with its place."""
    return plan(source, location=location, flavour=flavour, cache=cache or Cache(), fetch=False).requests


def resulting_config(
    source: str = "auto",
    *,
    location: str | None = None,
    flavour: tuple[str, ...] = DEFAULT,
    cache: Cache | None = None,
) -> str:
    """The text of the .config that `build` would use, without building."""
    cache = cache or Cache()
    with explained_disk_errors(cache.root / KIND):
        wanted = plan(source, location=location, flavour=flavour, cache=cache)
        entry = cache.get(KIND, wanted.key)
        if entry is not None:
            return (entry.path / "config").read_text()
        with tree.opened(wanted.source, wanted.patches, cache=cache) as work:
            return compilation.configure(wanted, work).read_text()


def _kernel(entry: Entry) -> Kernel:
    return Kernel(
        bzimage=entry.path / "bzImage",
        config=entry.path / "config",
        release=entry.manifest["release"],
        source=entry.manifest["source"]["name"],
        entry=entry,
    )


def _predicted(wanted: Plan, cache: Cache) -> Entry:
    manifest = {"release": str(wanted.source.version), "source": {"name": wanted.source.name}}
    return Entry(KIND, wanted.key, cache.path(KIND, wanted.key), manifest)


def _tell(wanted: Plan, entry: Entry | None) -> None:
    source = wanted.source
    note(f"source   Linux {source.version} from {source.origin} ({source.digest[:20]})")
    if source.path is None and entry is None:
        note("         would be downloaded")
    note(f"patches  {', '.join(p.name for p in wanted.patches) or 'none'}")
    note(f"config   {'+'.join(wanted.flavour)}: {len(wanted.requests)} symbols")
    note(f"kernel   {f'in the cache: {entry.path}' if entry else f'would be built as {KIND}/{wanted.key}'}")


def _make(wanted: Plan, folder: Path, cache: Cache) -> dict[str, Any]:
    """Fill a cache entry's folder; returns its manifest."""
    started = time.monotonic()
    source = wanted.source
    with tree.opened(source, wanted.patches, cache=cache) as work:
        dot_config = compilation.configure(wanted, work)
        image = compilation.compile_image(wanted, work)
        # make may still have changed the .config, had kconfig questions left
        config.check(wanted.requests, dot_config.read_text(), version=source.version)
        maker = work.make(wanted.flavour)
        release = maker.output_of("kernelrelease")
        log = compilation.log_of(maker.output)
        for made, name in (
            (image, "bzImage"),
            (dot_config, "config"),
            (maker.output / "System.map", "System.map"),
        ):
            if not made.is_file() or made.stat().st_size == 0:
                raise BuildError(f"make said it was done, but there is no {made}", log=log)
            shutil.copyfile(made, folder / name)
        _compress(log, folder / "build.log.gz")
    return {
        "release": release,
        "version": str(source.version),
        "source": {
            "name": source.name,
            "kind": source.kind,
            "origin": source.origin,
            "digest": source.digest,
        },
        "patches": [{"name": p.name, "sha256": p.sha256} for p in wanted.patches],
        "flavour": list(wanted.flavour),
        "fragments": config.hashes(wanted.flavour),
        "toolchain": make.toolchain(),
        "flags": make.flags(source.spec.cflags),
        "bzimage_sha256": files.sha256_file(folder / "bzImage"),
        "config_sha256": files.sha256_file(folder / "config"),
        "seconds": round(time.monotonic() - started, 1),
        "log": "build.log.gz",
    }


def _compress(log: Path, target: Path) -> None:
    with (
        log.open("rb") as plain,
        target.open("wb") as out,
        gzip.GzipFile("", "wb", 6, out, mtime=0) as packed,
    ):
        shutil.copyfileobj(plain, packed)
