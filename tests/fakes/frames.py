# SPDX-License-Identifier: Apache-2.0
"""Plans with frames, made from plans that migrate by `move_pages`."""

from __future__ import annotations

import dataclasses

from sentinel.planner.formats.plan import Plan, Use
from sentinel.planner.formats.profile import Profile


def with_frames(plan: Plan, profile: Profile) -> Plan:
    """Return the plan with a range of frames for each group: no two ever need the same.

    Groups are copied and remapped in the time that the plan has for their moves.
    """
    frame, frames = {}, 0
    for group in plan.groups:
        if not group.keep:
            frame[group.offset] = frames
            frames += group.size
    return dataclasses.replace(
        plan,
        frames=frames,
        groups=[g._replace(frame=frame.get(g.offset) if g.node == 0 else None) for g in plan.groups],
        moves=[
            move
            if move.offset is None
            else move._replace(map=move.at, frame=frame[move.offset] if move.to == 0 else None)
            for move in plan.moves
        ],
        uses=[Use(*key, position) for position, key in sorted(_uses(plan, profile).items())],
    )


def _uses(plan: Plan, profile: Profile) -> dict[int, tuple[str, int]]:
    """The operations that allocate or use a tensor in a group without `keep`, by position."""
    places = {t.key: t for t in plan.tensors}
    ranges = [(g.offset, g.offset + g.size) for g in plan.groups if not g.keep]

    def in_window(i: int) -> bool:
        place = places.get(profile.key(i))
        if place is None or place.offset is None or place.pool != "long":
            return False
        return any(place.offset < end and start < place.offset + place.size for start, end in ranges)

    windows = [in_window(i) for i in range(len(profile.tensors))]
    positions = {
        int(p) for t, p in zip(profile.uses.tensor, profile.uses.position, strict=True) if windows[t]
    }
    positions |= {int(op) for i, op in enumerate(profile.tensors.op) if windows[i] and op >= 0}
    ops = profile.ops
    return {p: (ops.name[p], int(ops.occurrence[p])) for p in positions}
