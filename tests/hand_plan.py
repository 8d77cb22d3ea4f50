# SPDX-License-Identifier: Apache-2.0
"""A valid plan for tests, made from a profile, that moves far more than a useful plan.

Tensors that live within a layer are short-lived. Every other tensor is a group of its own, which is demoted
and promoted at every second operation while it lives; variables at every eighth.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

PAGE = 4096
ROOM = 1 << 40  # without limit
Json = dict[str, Any]


def make(profile: Json) -> Json:
    """Return a plan for the profiled step."""
    names, layers = profile["ops"]["name"], profile["ops"]["layer"]
    ops = len(names)
    tensors: list[Json] = []
    groups: list[Json] = []
    moves: list[Json] = []
    short: list[tuple[int, int, int]] = []  # (offset, end, death) of live tensors
    reserved = arena = 0
    for t in profile["tensors"]:
        if t["thread"] > 0 or (t["op"] < 0 and t["kind"] != "variable"):
            continue
        if t["op"] < 0:
            for at in range(-1, ops, 8):
                to = int(at % 16 < 8)
                moves.append({"at": at, "to": to, "tensor": len(tensors), "before": min(at + 8, ops)})
            tensors.append({"name": t["name"], "size": t["size"], "pool": "long", "offset": None, "node": 0})
            continue
        key = {"op": names[t["op"]], "k": t["k"], "size": t["size"]}
        key["occurrence"] = profile["ops"]["occurrence"][t["op"]]
        key["position"] = t["op"]
        if layers[t["birth"]] == layers[min(t["death"], ops) - 1]:
            short = [block for block in short if block[2] > t["birth"]]
            offset = _first_fit(short, t["size"])
            short.append((offset, offset + t["size"], t["death"]))
            reserved = max(reserved, -(-(offset + t["size"]) // PAGE) * PAGE)
            tensors.append({**key, "pool": "short", "offset": offset})
            continue
        size = -(-t["size"] // PAGE) * PAGE
        tensors.append({**key, "pool": "long", "offset": arena, "node": 0})
        groups.append({"offset": arena, "size": size, "node": 0, "keep": False})
        for n, at in enumerate(range(t["birth"] + 1, t["death"], 2)):
            moves.append(
                {"at": at, "to": (n + 1) % 2, "offset": arena, "size": size, "before": min(at + 2, ops)}
            )
        arena += size
    return {
        "format": "sentinel-plan",
        "version": 1,
        "graph": profile["graph"],
        "ops": ops,
        "budget": reserved + arena,
        "room": ROOM,
        "reserved": reserved,
        "arena": arena,
        "interval_layers": 1,
        "intervals": [0],
        "tensors": tensors,
        "groups": groups,
        "moves": sorted(moves, key=lambda move: move["at"]),
        "waits": list(range(0, ops, 4)),
        "predicted": {},
        "made": {"by": "hand"},
    }


def with_frames(plan: Json, profile: Json) -> Json:
    """Return the plan with frames for its groups, each of which has a range of its own and is born there.

    `profile` is that of `make`. Groups are demoted and promoted as before, but only while no operation uses
    them; copies may run from an operation's last write on.
    """
    names, occurrences = profile["ops"]["name"], profile["ops"]["occurrence"]
    users: set[int] = set()
    groups, moves, offset = [], [m for m in plan["moves"] if "tensor" in m], 0
    for group in plan["groups"]:
        born = next(t for t in plan["tensors"] if t["pool"] == "long" and t["offset"] == group["offset"])
        tensor = next(
            t
            for t in profile["tensors"]
            if t["op"] >= 0
            and (names[t["op"]], occurrences[t["op"]], t["k"]) == (born["op"], born["occurrence"], born["k"])
        )
        positions = sorted({tensor["op"], *(p for p, _, _ in tensor["uses"])})
        users |= set(positions)
        writes = {p for p, _, written in tensor["uses"] if written} | {tensor["op"]}
        groups.append({**group, "node": 0, "frame": offset})
        area = {"offset": group["offset"], "size": group["size"]}
        for use, after in pairwise(positions):
            at = max(use, max(p for p in writes if p <= use) + 1)
            gone = min(use + 1 + (after - use) // 2, after)
            moves.append(
                {"at": at, "to": 1, **area, "before": gone, "map": use + 1, "frame": None, "copy": True}
            )
            moves.append(
                {"at": gone, "to": 0, **area, "before": after, "map": gone, "frame": offset, "copy": True}
            )
        offset += group["size"]
    return {
        **plan,
        "version": 2,
        "frames": offset,
        "groups": groups,
        "moves": sorted(moves, key=lambda move: move["at"]),
        "uses": [[names[p], occurrences[p], p] for p in sorted(users)],
    }


def _first_fit(live: list[tuple[int, int, int]], size: int) -> int:
    offset = 0
    for start, end, _ in sorted(live):
        if offset + size <= start:
            break
        offset = max(offset, -(-end // 64) * 64)
    return offset
