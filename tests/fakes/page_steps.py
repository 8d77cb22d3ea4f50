# SPDX-License-Identifier: Apache-2.0
"""Steps for page-based policies: what they see without an engine, and recorded steps with a hot set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sentinel.replay import trace
from sentinel.replay.paging import READ, PagePolicy, Pages
from sentinel.replay.trace import LINES, PAGE, Trace
from testbed.timing import preset
from tests.fakes.access_traces import EVENT, PAGES, Recording
from tests.fakes.access_traces import READ as READ_WORD

HOT_PAGES, SCANNED_PAGES, ROUNDS = 96, 128, 16  # of `hot_and_scan`
VARIABLE_PAGES = PAGES  # of the pool, before the hot set
_OPTANE = preset.load("optane-6dimm")
OPTANE = _OPTANE.model_copy(update={"cache": _OPTANE.cache.model_copy(update={"size": 32 * PAGE})})


def pages_of(fast: Sequence[int], count: int, *, budget: int | None = None, period: float = 100.0) -> Pages:
    """Return pages of which those in `fast` are on node 0."""
    node = np.ones(count, dtype=np.uint8)
    node[list(fast)] = 0
    return Pages(node, len(fast) if budget is None else budget, period)


def fast_pages(pages: Pages) -> list[int]:
    """Return the pages on node 0."""
    return [page for page in range(len(pages)) if pages.fast[page]]


def touch(pages: Pages, accessed: Iterable[int], *, reads: int = 0, writes: int = 0) -> None:
    """Access pages at the current time, with that many sampled misses each."""
    for page in accessed:
        pages.touched[page] |= READ
        pages.reads[page] += reads
        pages.writes[page] += writes
        if pages.hidden[page] >= 0:
            pages.latency[page] = pages.now - pages.hidden[page]
            pages.hidden[page] = -1


def decide(policy: PagePolicy, pages: Pages) -> list[int]:
    """Let a period pass and the policy decide, and carry out its moves. Returns the pages that moved."""
    pages.now += pages.period
    chosen = np.asarray(policy.decide(pages), dtype=int)
    assert len(set(chosen.tolist())) == len(chosen)
    slow = chosen[pages.node[chosen] == 1]
    pages.node[chosen[pages.node[chosen] == 0]] = 1
    promoted = slow[: pages.free]
    pages.node[promoted] = 0
    assert pages.free >= 0
    return [int(page) for page in chosen]


def hot_and_scan(folder: Path) -> Trace:
    """Record a step that scans `w` once, and reads the first pages of `t` many times meanwhile.

    First touch has `w` in fast memory. The hot set is larger than the cache of the preset OPTANE.
    """
    recording = Recording()
    recording.step()
    events = [word for word in recording.words if word >> 62 == EVENT]
    recording.words = []
    for line in range(HOT_PAGES * LINES):
        recording.add(READ_WORD, recording.tensor + 64 * line, node=1)
    hot, recording.words = recording.words, events[:3]
    part = SCANNED_PAGES * LINES // ROUNDS
    for n in range(ROUNDS):
        for line in range(n * part, (n + 1) * part):
            recording.add(READ_WORD, recording.variable + 64 * line, node=1)
        recording.words += hot
    recording.words += events[3:]
    return trace.read(recording.write(folder))
