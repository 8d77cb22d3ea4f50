# SPDX-License-Identifier: Apache-2.0
"""Build a bzImage from a source, the patches its version needs, and config fragments.

::

    kernel = build("4.9")
    kernel.bzimage, kernel.release
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel import compilation, config, kbuild, tree
from kernel.build_spec import KIND, BuildSpec, resolve
from kernel.config import DEFAULT, Request
from kernel.kbuild import Kbuild
from kernel.machine_config import USUAL, Variant
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import BuildError
from testbed.common.progress import note

_MODULES = "modules"  # in the cache entry


@dataclass(frozen=True)
class Kernel:
    """A built kernel. `release` is its `uname -r`, `source` its name in sources.yaml."""

    bzimage: Path
    config: Path
    release: str
    source: str
    entry: Entry

    @property
    def modules(self) -> Path | None:
        """The content of /lib/modules/RELEASE, but for what depmod writes; None if it has no modules."""
        folder = self.entry.path / _MODULES
        return folder if folder.is_dir() else None


def build(
    source: str = "auto",
    *,
    location: str | None = None,
    flavour: tuple[str, ...] = DEFAULT,
    variant: Variant = USUAL,
    cache: Cache | None = None,
    dry_run: bool = False,
) -> Kernel:
    """Return the kernel of a source, flavour and variant, and build it if it is not cached.

    `location` is a tree, a tarball or `REPOSITORY@COMMIT` that replaces the default of `source`. `dry_run`
    builds and downloads nothing: it prints the inputs, and returns the kernel with its future path.
    Raises UsageError for wrong input, InfrastructureError if no source is available, BuildError if the build
    fails.
    """
    cache = cache or Cache()
    with explained_disk_errors(cache.root / KIND):
        spec = resolve(
            source, location=location, flavour=flavour, variant=variant, cache=cache, fetch=not dry_run
        )
        entry = cache.get(KIND, spec.key)
        if dry_run:
            _print_inputs(spec, entry)
            return _kernel(entry or _future_entry(spec, cache))
        return _kernel(entry or cache.build(KIND, spec.key, lambda folder: _build(spec, folder, cache)))


def installed(cache: Cache) -> list[Kernel]:
    """Return all cached kernels, the most recently used last."""
    return [_kernel(entry) for entry in cache.entries() if entry.kind == KIND]


def source_of(source: str, *, location: str | None, flavour: tuple[str, ...] = DEFAULT, cache: Cache) -> str:
    """Return the name of the source that `build` would use now. Raises the same errors."""
    return resolve(source, location=location, flavour=flavour, cache=cache, fetch=False).source.name


def requested_config(
    source: str = "auto",
    *,
    location: str | None = None,
    flavour: tuple[str, ...] = DEFAULT,
    cache: Cache | None = None,
) -> dict[str, Request]:
    """Return the fragments' requests for a source's version, by symbol."""
    return resolve(source, location=location, flavour=flavour, cache=cache or Cache(), fetch=False).requests


def resulting_config(
    source: str = "auto",
    *,
    location: str | None = None,
    flavour: tuple[str, ...] = DEFAULT,
    cache: Cache | None = None,
) -> str:
    """Return the text of the .config that `build` would use, without building."""
    cache = cache or Cache()
    with explained_disk_errors(cache.root / KIND):
        spec = resolve(source, location=location, flavour=flavour, cache=cache)
        entry = cache.get(KIND, spec.key)
        if entry is not None:
            return (entry.path / "config").read_text()
        with tree.opened(spec.source, spec.patches, cache=cache) as work:
            return compilation.configure(spec, work).read_text()


def _kernel(entry: Entry) -> Kernel:
    return Kernel(
        bzimage=entry.path / "bzImage",
        config=entry.path / "config",
        release=entry.manifest["release"],
        source=entry.manifest["source"]["name"],
        entry=entry,
    )


def _future_entry(spec: BuildSpec, cache: Cache) -> Entry:
    manifest = {"release": f"{spec.source.version}{spec.local_version}", "source": {"name": spec.source.name}}
    return Entry(KIND, spec.key, cache.path(KIND, spec.key), manifest)


def _print_inputs(spec: BuildSpec, entry: Entry | None) -> None:
    source = spec.source
    note(f"source   Linux {source.version} from {source.origin} ({source.digest[:20]})")
    if source.path is None and entry is None:
        note("         would be downloaded")
    note(f"patches  {', '.join(p.name for p in spec.patches) or 'none'}")
    note(f"config   {'+'.join(spec.flavour)}: {len(spec.requests)} symbols")
    note(f"kernel   {f'cached: {entry.path}' if entry else f'would be built as {KIND}/{spec.key}'}")


def _build(spec: BuildSpec, folder: Path, cache: Cache) -> dict[str, Any]:
    """Fill the folder of a cache entry, and return its manifest."""
    started = time.monotonic()
    source = spec.source
    with tree.opened(source, spec.patches, cache=cache) as work:
        dot_config = compilation.configure(spec, work)
        image = compilation.compile_kernel(spec, work)
        # make runs kconfig again and may have changed the .config.
        config.check(spec.requests, dot_config.read_text(), version=source.version)
        make = compilation.kbuild_of(spec, work)
        release = make.output_of("kernelrelease")
        log = compilation.log_of(make.output)
        for product, name in (
            (image, "bzImage"),
            (dot_config, "config"),
            (make.output / "System.map", "System.map"),
        ):
            if not product.is_file() or product.stat().st_size == 0:
                raise BuildError(f"make succeeded but did not write {product}", log=log)
            shutil.copyfile(product, folder / name)
        if compilation.has_modules(dot_config):
            _install_modules(make, release, folder / _MODULES, log)
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
        "patches": [{"name": p.name, "sha256": p.sha256} for p in spec.patches],
        "flavour": list(spec.flavour),
        "variant": spec.variant.inputs(),
        "fragments": config.hashes(spec.flavour),
        "toolchain": kbuild.toolchain(),
        "flags": kbuild.portable_flags(source.spec.cflags),
        "bzimage_sha256": files.sha256_file(folder / "bzImage"),
        "config_sha256": files.sha256_file(folder / "config"),
        "seconds": round(time.monotonic() - started, 1),
        "log": "build.log.gz",
    }


def _install_modules(make: Kbuild, release: str, target: Path, log: Path) -> None:
    """Install the modules into the folder `target`, stripped; depmod has to run where they will be used."""
    with tempfile.TemporaryDirectory(dir=target.parent) as root:
        variables = {"INSTALL_MOD_PATH": root, "INSTALL_MOD_STRIP": "1", "DEPMOD": "true"}
        make.stream(make.argv("modules_install", variables=variables), log=log)
        installed = Path(root) / "lib" / "modules" / release
        for link in ("build", "source"):  # to folders of this host
            (installed / link).unlink(missing_ok=True)
        installed.rename(target)


def _compress(log: Path, target: Path) -> None:
    with (
        log.open("rb") as plain,
        target.open("wb") as out,
        gzip.GzipFile("", "wb", 6, out, mtime=0) as packed,
    ):
        shutil.copyfileobj(plain, packed)
