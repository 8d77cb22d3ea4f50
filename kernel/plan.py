# SPDX-License-Identifier: Apache-2.0
"""What is to be built: source, patches and config requests, and the key that they make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernel import config, make, series, source
from kernel.config import Request
from kernel.series import Patch
from kernel.source import Source
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import InfrastructureError, UsageError
from testbed.common.progress import warn

KIND = "kernel"  # of the cache entries
FORMAT = 1  # goes up when the same inputs would give another artefact


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a kernel is."""

    source: Source
    flavour: tuple[str, ...]
    patches: tuple[Patch, ...]
    requests: dict[str, Request]

    @property
    def key(self) -> str:
        """The key of the kernel in the cache."""
        return files.sha256_json(
            {
                "format": FORMAT,
                "source": self.source.digest,
                "patches": [patch.sha256 for patch in self.patches],
                "config": {r.symbol: r.value for r in self.requests.values()},
                "toolchain": make.toolchain(),
                "flags": make.flags(self.source.spec.cflags),
            }
        )


def plan(
    name: str, *, location: str | None, flavour: Sequence[str], cache: Cache, fetch: bool = True
) -> Plan:
    """Decide what to build. With `fetch`, a source that must be downloaded is, unless its kernel is cached;
    without, its server is only asked whether it has it, so that both come to the same source.

    For `auto` the first source that can be had wins, and the user is told why an earlier one cannot.
    """
    _check_folder(cache)
    flavour = tuple(dict.fromkeys(flavour))
    for fragment in flavour:
        config.path_of(fragment)
    candidates = source.candidates(name)
    if location is not None:
        return _plan(name, location=location, flavour=flavour, cache=cache, fetch=fetch)
    failures: list[InfrastructureError] = []
    for candidate in candidates:
        try:
            found = _plan(candidate, location=None, flavour=flavour, cache=cache, fetch=fetch)
        except InfrastructureError as e:
            if len(candidates) == 1:
                raise
            failures.append(e)
            continue
        for failure in failures:
            warn(f"{failure.message}; using Linux {found.source.version} instead")
        return found
    raise InfrastructureError(
        "no kernel source can be had: " + "; ".join(f.message for f in failures), hint=failures[0].hint
    )


def _plan(name: str, *, location: str | None, flavour: tuple[str, ...], cache: Cache, fetch: bool) -> Plan:
    located = source.locate(name, location=location, cache=cache)
    version = located.version
    wanted = Plan(located, flavour, series.select(version), config.merged(flavour, version=version))
    if located.path is not None or cache.get(KIND, wanted.key) is not None:
        return wanted
    if not fetch:
        source.check_reachable(located)
        return wanted
    return Plan(source.obtain(located, cache=cache), flavour, wanted.patches, wanted.requests)


def _check_folder(cache: Cache) -> None:
    bad = " ".join(map(repr, sorted(set(str(cache.root)) & set(" \t:'\"\\$#%"))))
    if bad:
        raise UsageError(
            f"make cannot build in the cache folder {cache.root}: it has {bad} in its name",
            hint="SENTINEL_CACHE=/another/folder",
        )
