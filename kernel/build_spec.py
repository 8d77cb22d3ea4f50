# SPDX-License-Identifier: Apache-2.0
"""The inputs of a kernel build: source, patches and configuration, and the cache key made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernel import config, kbuild, series, source
from kernel.config import Request
from kernel.machine_config import USUAL, Variant
from kernel.series import Patch
from kernel.source import Source
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import InfrastructureError, UsageError
from testbed.common.progress import warn

KIND = "kernel"  # of the cache entries
FORMAT = 1  # increment when equal inputs give a different artefact


@dataclass(frozen=True)
class BuildSpec:
    """The inputs of one kernel build."""

    source: Source
    flavour: tuple[str, ...]
    patches: tuple[Patch, ...]
    requests: dict[str, Request]
    variant: Variant = USUAL

    @property
    def key(self) -> str:
        """The kernel's key in the cache."""
        return files.sha256_json(
            {
                "format": FORMAT,
                "source": self.source.digest,
                "patches": [patch.sha256 for patch in self.patches],
                "config": {r.symbol: r.value for r in self.requests.values()},
                "toolchain": kbuild.toolchain(),
                "flags": kbuild.portable_flags(self.source.spec.cflags),
                **self.variant.inputs(),
            }
        )

    @property
    def local_version(self) -> str:
        """The end of the release of a kernel with a name: `-NAME-` and digits of the key."""
        return f"-{self.variant.name}-{self.key[:12]}" if self.variant.name else ""


def resolve(
    name: str,
    *,
    location: str | None,
    flavour: Sequence[str],
    cache: Cache,
    variant: Variant = USUAL,
    fetch: bool = True,
) -> BuildSpec:
    """Resolve a source name, or `auto`, and a flavour to the inputs of a build.

    `auto` takes the first available source and warns about each unavailable one before it. For a machine's
    configuration it considers only sources with modules. With `fetch`, downloads the source unless its kernel
    is cached. Without, only checks that the server has it, so that a dry run resolves to the same source as a
    build.
    """
    _check_folder(cache)
    flavour = tuple(dict.fromkeys(flavour))
    for fragment in flavour:
        config.path_of(fragment)
    candidates = source.candidates(name)

    def resolved(candidate: str) -> BuildSpec:
        located = source.locate(candidate, location=location, cache=cache)
        if variant.machine is not None and not located.spec.modules:
            raise UsageError(
                f"Linux {located.name} cannot load modules, so it cannot have a machine's configuration"
            )
        requests = config.merged(flavour, version=located.version)
        spec = BuildSpec(located, flavour, series.select(located.version), requests, variant)
        if located.path is None and cache.get(KIND, spec.key) is None:
            if fetch:
                return replace(spec, source=source.obtain(located, cache=cache))
            source.check_reachable(located)
        return spec

    if location is not None:
        return resolved(name)
    if name == source.AUTO and variant.machine is not None:
        candidates = tuple(n for n in candidates if source.catalogue().sources[n].modules)
    failures: list[InfrastructureError] = []
    for candidate in candidates:
        try:
            spec = resolved(candidate)
        except InfrastructureError as e:
            if len(candidates) == 1:
                raise
            failures.append(e)
            continue
        for failure in failures:
            warn(f"{failure.message}; using Linux {spec.source.version} instead")
        return spec
    raise InfrastructureError(
        "no kernel source is available: " + "; ".join(f.message for f in failures), hint=failures[0].hint
    )


def _check_folder(cache: Cache) -> None:
    unsupported = " ".join(map(repr, sorted(set(str(cache.root)) & set(" \t:'\"\\$#%"))))
    if unsupported:
        raise UsageError(
            f"make cannot build in the cache folder {cache.root}: its name contains {unsupported}",
            hint="SENTINEL_CACHE=/another/folder",
        )
