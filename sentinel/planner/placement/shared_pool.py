# SPDX-License-Identifier: Apache-2.0
"""Addresses for a packing in which tensors that never migrate share the fast frame pool with those that do.

Addresses of tensors that never migrate are used again soon, as by a good allocator, while their lines are in
the cache. Their part of the pool is free for others while none of them lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..memory.classify import LONG
from ..problem import Problem
from ..schedule.packing import Packing, Stay
from ..timing.cores import Cores
from .frames import FramePlacement, moves_of, predict_stays, retime
from .layout import Blocks, Order, lay_out

if TYPE_CHECKING:
    from ..formats.fields import Bools, Ints

_MIN_CHUNK_PAGES, _CHUNKS = 4, 256  # of windows of tensors that never migrate: pages, and windows in the pool


def place_shared(problem: Problem, packing: Packing, cores: Cores, order: Order) -> FramePlacement | None:
    """Give every migrating unit its ranges, and every other tensor an address. None if nothing migrates.

    Stays that find no range are dropped. `packing` is left with the stays of the placement.
    """
    units, page_bytes = problem.units, problem.profile.page_bytes
    for _ in range(2):  # without the stays that found no range, others may no longer migrate
        retime(packing, cores)
        fast_variables, migrating = _sort(packing)
        if not migrating:
            return None
        pool = (problem.unit_budget - int(units.size[fast_variables].sum())) // page_bytes * page_bytes
        chunk = max(_MIN_CHUNK_PAGES, pool // page_bytes // _CHUNKS) * page_bytes
        own = _owners(problem, {stay.unit for stay in migrating})
        stays = [stay for stay in packing.all_stays() if own[stay.unit] and not units.variable[stay.unit]]
        layout = lay_out(
            problem,
            _shared_tensors(problem, own),
            pool // chunk * chunk,
            order,
            blocks=_blocks(packing, stays, chunk),
        )
        dropped = [stay for stay, offset in zip(stays, layout.block_offset.tolist()) if offset < 0]
        for stay in dropped:
            packing.remove(stay)
        if not dropped:
            break
    retime(packing, cores, extend=False)  # ranges are taken for the time that stays have now
    ranges = {(s.unit, s.first): o for s, o in zip(stays, layout.block_offset.tolist()) if o >= 0}
    kept = [stay for stay in packing.all_stays() if (stay.unit, stay.first) in ranges]
    windows = np.zeros(len(units), dtype=bool)
    frame = np.full(len(units), -1, dtype=np.int64)
    for stay in kept:
        windows[stay.unit] = True
        if stay.promotion is None:
            frame[stay.unit] = ranges[stay.unit, stay.first]
    u = problem.profile.uses
    saved_ns = np.bincount(
        u.position,
        weights=problem.costs.saved_ns * layout.fast_shares(len(problem.classes))[u.tensor],
        minlength=len(problem.op_ns),
    ).astype(np.float64)
    variables = [stay for stay in packing.all_stays() if units.variable[stay.unit]]
    moves = moves_of(kept, ranges)
    return FramePlacement(
        problem=problem,
        own=own,
        windows=windows,
        frame=frame,
        frames=pool // chunk * chunk,
        fast_variables=fast_variables,
        moves=moves,
        layout=layout,
        timeline=predict_stays(problem, [*kept, *variables], moves, saved_ns, cores),
        shares_pool=True,
        chunk=chunk,
    )


def _sort(packing: Packing) -> tuple[Bools, list[Stay]]:
    """Return the variables in fast memory, and the stays of other units that migrate."""
    variable = packing.problem.units.variable
    fast = np.zeros(len(variable), dtype=bool)
    migrating = []
    for stay in packing.all_stays():
        if variable[stay.unit]:
            fast[stay.unit] = True
        elif stay.promotion is not None or stay.demotion is not None:
            migrating.append(stay)
    return fast, migrating


def _owners(problem: Problem, migrating: set[int]) -> Bools:
    """Return the units with pages of their own: those that migrate, and the other pieces of their tensors."""
    units = problem.units
    own = np.zeros(len(units), dtype=bool)
    own[sorted(migrating)] = True
    members = np.flatnonzero(units.first_unit >= 0)
    row, unit = units.of_tensors(members)
    tensor_own = np.zeros(len(problem.classes), dtype=bool)
    np.logical_or.at(tensor_own, members[row], own[unit])
    np.logical_or.at(own, unit, tensor_own[members[row]])
    return own


def _shared_tensors(problem: Problem, own: Bools) -> Bools:
    units = problem.units
    shared: Bools = problem.classes == LONG
    tensors = np.flatnonzero(shared & (units.first_unit >= 0))
    shared[tensors] = ~own[units.first_unit[tensors]]
    return shared


def _blocks(packing: Packing, stays: list[Stay], chunk: int) -> Blocks:
    size = packing.problem.units.size
    columns = [(s.begin, s.end, int(size[s.unit]), packing.value(s.first, s.last)) for s in stays]
    begin, end, length, value = (np.array(column) for column in zip(*columns))
    whole: Ints = -(-length // chunk) * chunk
    return Blocks(begin, end, whole, value.astype(np.float64), chunk)
