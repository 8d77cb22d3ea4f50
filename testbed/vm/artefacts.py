# SPDX-License-Identifier: Apache-2.0
"""Damaged artefacts as the reason of failed starts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed.common.cache import Cache
from testbed.common.cache_entry import Damaged
from testbed.common.errors import InfrastructureError, SentinelError

_QUICK_BYTES = 16 << 20  # files up to this size are hashed before each start: kernels, not images


@contextlib.contextmanager
def damage_explained(config: dict[str, Any]) -> Iterator[None]:
    """If the block fails, check the machine's artefacts, and blame a damaged one."""
    try:
        yield
    except SentinelError as failure:
        _raise_if_damaged(_damaged(config), failure)
        raise


def check(config: dict[str, Any]) -> None:
    """Check sizes of all artefacts and contents of small ones. Raises `InfrastructureError`."""
    _raise_if_damaged(_damaged(config, largest=_QUICK_BYTES))


def _raise_if_damaged(damaged: list[Damaged], failure: SentinelError | None = None) -> None:
    if damaged:
        consequence = f" ({failure.message})" if failure else ""
        raise InfrastructureError(
            f"the cache entry {damaged[0].name} is damaged: {damaged[0].why}{consequence}",
            hint="run the command again to rebuild it",
            log=failure.log if failure else None,
        ) from failure


def _damaged(config: dict[str, Any], *, largest: int | None = None) -> list[Damaged]:
    """Return the damaged artefacts; only files up to `largest` bytes are hashed."""
    uses = {(kind, key) for kind, key in config["uses"]}
    if not uses:
        return []
    cache = Cache(Path(config["cache"]))
    intact = [entry for entry in cache.entries() if (entry.kind, entry.key) in uses]
    damaged = [entry for entry in cache.damaged() if (entry.kind, entry.key) in uses]
    return [*damaged, *cache.condemn(*intact, largest=largest)]
