# SPDX-License-Identifier: Apache-2.0
"""Addresses for a packing in which tensors that never migrate share the fast frame pool with those that do.

Addresses of tensors that never migrate are used again soon, as by a good allocator, while their lines are in
the cache. Their part of the pool is free for others while none of them lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..memory.classify import LONG
from ..schedule.packing import Packing, Stay
from .frames import FramePlacement, moves_of, predict_stays, retime
from .layout import NO_BLOCKS, Blocks, Order, lay_out

if TYPE_CHECKING:
    from ..formats.fields import Bools, Ints

_MIN_CHUNK_PAGES, _CHUNKS = 4, 256  # of windows of tensors that never migrate: pages, and windows in the pool


def place(packing: Packing, order: Order) -> FramePlacement:
    """Give every migrating unit its ranges, and every other tensor an address.

    Stays that find no range are dropped. `packing` is left with the stays of the placement.
    """
    problem, page_bytes = packing.problem, packing.problem.profile.page_bytes
    units = problem.units
    for _ in range(2):  # without the stays that found no range, others may no longer migrate
        retime(packing)
        fast_variables, migrating = _sort(packing)
        pool = (problem.unit_budget - int(units.size[fast_variables].sum())) // page_bytes * page_bytes
        chunk = max(_MIN_CHUNK_PAGES, pool // page_bytes // _CHUNKS) * page_bytes
        tensor_own = units.tensors_with(migrating)
        own = units.units_of(tensor_own)
        stays = [stay for stay in packing.all_stays() if own[stay.unit] and not units.variable[stay.unit]]
        layout = lay_out(
            problem,
            (problem.classes == LONG) & ~tensor_own,
            pool // chunk * chunk,
            order,
            blocks=_blocks(packing, stays, chunk),
        )
        dropped = [stay for stay, offset in zip(stays, layout.block_offset.tolist()) if offset < 0]
        for stay in dropped:
            packing.remove(stay)
        if not dropped:
            break
    retime(packing, extend=False)  # ranges are taken for the time that stays have now
    ranges = {(s.unit, s.first): o for s, o in zip(stays, layout.block_offset.tolist()) if o >= 0}
    kept = [stay for stay in packing.all_stays() if (stay.unit, stay.first) in ranges]
    windows = np.zeros(len(units), dtype=bool)
    frame = np.full(len(units), -1, dtype=np.int64)
    for stay in kept:
        windows[stay.unit] = True
        if stay.promotion is None:
            frame[stay.unit] = ranges[stay.unit, stay.first]
    variables = [stay for stay in packing.all_stays() if units.variable[stay.unit]]
    moves = moves_of(kept, ranges)
    return FramePlacement(
        problem=problem,
        own=own,
        windows=windows,
        frame=frame,
        fast_variables=fast_variables,
        moves=moves,
        layout=layout,
        chunk=chunk,
        timeline=predict_stays(packing, [*kept, *variables], moves, layout.saved_ns(problem)),
    )


def _sort(packing: Packing) -> tuple[Bools, Bools]:
    """Return the variables in fast memory, and the other units that migrate."""
    variable = packing.problem.units.variable
    fast, migrating = np.zeros(len(variable), dtype=bool), np.zeros(len(variable), dtype=bool)
    for stay in packing.all_stays():
        if variable[stay.unit]:
            fast[stay.unit] = True
        elif stay.promotion is not None or stay.demotion is not None:
            migrating[stay.unit] = True
    return fast, migrating


def _blocks(packing: Packing, stays: list[Stay], chunk: int) -> Blocks:
    size = packing.problem.units.size
    columns = [(s.begin, s.end, int(size[s.unit]), packing.value(s.first, s.last)) for s in stays]
    if not columns:
        return NO_BLOCKS
    begin, end, length, value = (np.array(column) for column in zip(*columns))
    whole: Ints = -(-length // chunk) * chunk
    return Blocks(begin, end, whole, value.astype(np.float64), chunk)
