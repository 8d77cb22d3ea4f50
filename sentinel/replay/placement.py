# SPDX-License-Identifier: Apache-2.0
"""Where the runtime and the kernel put the pages of a traced step, without a plan.

The trace was recorded with tensors and new memory on node 1, so pages on node 0 are those that a memory
policy of the training does not reach: most of the kernel's, and those from before the training.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sentinel.replay.engine import OP, OWN, Scenario
from sentinel.replay.trace import LINE, LINES, PAGE, Kind, Trace, TracedTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_USER_PAGES = 1 << 35  # page numbers below are of user memory


def pool_pages(trace: Trace) -> NDArray[np.bool_]:
    """Return which pages are in the runtime's pool of unplanned tensors."""
    if not trace.resident:
        return np.zeros(len(trace.pages), dtype=bool)
    first = trace.resident[0][0] // PAGE
    end = max(start + size for start, size in trace.resident) // PAGE
    pages: NDArray[np.bool_] = (trace.pages >= first) & (trace.pages < end)
    return pages


def dense_page(trace: Trace, address: int) -> int:
    """Return the index of the page of an address of a tensor."""
    return int(np.searchsorted(trace.pages, np.uint64(address // PAGE)))


def dense_lines(trace: Trace, tensor: TracedTensor) -> tuple[int, int]:
    """Return the first dense line of a tensor, and the number of its lines."""
    first = dense_page(trace, tensor.address) * LINES + tensor.address % PAGE // LINE
    return first, -(-tensor.size // LINE)


def with_owners(trace: Trace, kind: Kind, scenario: Scenario) -> Scenario:
    """Add to a scenario without a plan what the engine needs to count traffic: tensors and operations."""
    actions = [(op.event, OP, position, 0, 0) for position, op in enumerate(kind.ops)]
    for i, tensor in enumerate(kind.tensors):
        actions.append((tensor.born or 0, OWN, *dense_lines(trace, tensor), i))
    return replace(scenario, actions=sorted(actions, key=lambda action: action[0]))


def identity_lines(pages: int) -> NDArray[np.uint32]:
    """Return the map of each line to itself."""
    return np.arange(pages * LINES, dtype=np.uint32)


def fast_only(trace: Trace) -> Scenario:
    """All memory of the training on node 0."""
    return _static(trace, np.zeros(len(trace.pages)))


def slow_only(trace: Trace) -> Scenario:
    """All memory that the training allocates on node 1, as in the traced step."""
    return _static(trace, np.where(pool_pages(trace), 1, trace.nodes))


def first_touch(trace: Trace, budget: int) -> Scenario:
    """The pool's lowest pages on node 0, `budget` bytes of them: those that were touched first."""
    end = _resident_prefix(trace, budget)
    return pool_on(trace, trace.pages >= end)


def interleave(trace: Trace, budget: int) -> Scenario:
    """Every other page of the pool on node 0, from its lowest on, until `budget` bytes are used up."""
    end = _resident_prefix(trace, 2 * budget)
    return pool_on(trace, (trace.pages >= end) | (trace.pages % np.uint64(2) == 1))


def pool_on(trace: Trace, slow: NDArray[np.bool_]) -> Scenario:
    """Those pages of the pool on node 1 that are `slow`, and all other memory on node 0."""
    return _static(trace, _with_pool(trace, slow))


def outside_pool(trace: Trace) -> NDArray[np.uint8]:
    """Return the node of each page with the pool on node 1, and no policy for other memory."""
    return _with_pool(trace, np.ones(len(trace.pages), dtype=bool))


def _with_pool(trace: Trace, slow: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The nodes with those pages of the pool on node 1 that are `slow`, and all other memory on node 0."""
    return np.where(pool_pages(trace), slow, 0).astype(np.uint8)


def _resident_prefix(trace: Trace, budget: int) -> int:
    """The page number at which the pool's first `budget` bytes with memory end."""
    left = budget // PAGE
    for start, size in trace.resident:
        if size // PAGE > left:
            return start // PAGE + left
        left -= size // PAGE
    return _USER_PAGES


def _static(trace: Trace, nodes: NDArray[np.generic]) -> Scenario:
    return Scenario(page=nodes.astype(np.uint8), line=identity_lines(len(trace.pages)))
