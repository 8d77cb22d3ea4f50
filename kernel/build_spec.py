# SPDX-License-Identifier: Apache-2.0
"""The inputs of a kernel build: source, patches and configuration, and the cache key made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernel import config, kbuild, series, source
from kernel.config import Request
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
            }
        )


def resolve(
    name: str, *, location: str | None, flavour: Sequence[str], cache: Cache, fetch: bool = True
) -> BuildSpec:
    """Resolve a source name, or `auto`, and a flavour to the inputs of a build.

    `auto` takes the first available source and warns about each unavailable one before it. With `fetch`,
    downloads the source unless its kernel is cached. Without, only checks that the server has it, so that a
    dry run resolves to the same source as a build.
    """
    _check_folder(cache)
    flavour = tuple(dict.fromkeys(flavour))
    for fragment in flavour:
        config.path_of(fragment)
    candidates = source.candidates(name)
    if location is not None:
        return _resolve(name, location=location, flavour=flavour, cache=cache, fetch=fetch)
    failures: list[InfrastructureError] = []
    for candidate in candidates:
        try:
            spec = _resolve(candidate, location=None, flavour=flavour, cache=cache, fetch=fetch)
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


def _resolve(
    name: str, *, location: str | None, flavour: tuple[str, ...], cache: Cache, fetch: bool
) -> BuildSpec:
    located = source.locate(name, location=location, cache=cache)
    version = located.version
    spec = BuildSpec(located, flavour, series.select(version), config.merged(flavour, version=version))
    if located.path is not None or cache.get(KIND, spec.key) is not None:
        return spec
    if not fetch:
        source.check_reachable(located)
        return spec
    return BuildSpec(source.obtain(located, cache=cache), flavour, spec.patches, spec.requests)


def _check_folder(cache: Cache) -> None:
    unsupported = " ".join(map(repr, sorted(set(str(cache.root)) & set(" \t:'\"\\$#%"))))
    if unsupported:
        raise UsageError(
            f"make cannot build in the cache folder {cache.root}: its name contains {unsupported}",
            hint="SENTINEL_CACHE=/another/folder",
        )
