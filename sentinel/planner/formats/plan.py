# SPDX-License-Identifier: Apache-2.0
"""A plan: where every tensor is when it is born, and what moves when (docs/sentinel.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import FormatError
from .fields import Fields, header

FORMAT, VERSION = "sentinel-plan", 1
POOLS = ("short", "long")


class Placed(NamedTuple):
    """A tensor of the plan. Those from before the step have `name` and no `op`, variables no `offset`.

    `position` is its operation's, by which the runtime knows how far a step has come; None if that does not
    wait for others, so that it may begin at any time.
    """

    op: str | None
    occurrence: int
    k: int
    size: int
    pool: str
    offset: int | None
    node: int
    name: str | None
    position: int | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """As `Profile.key`."""
        if self.op is None:
            return ("", self.name, 0, self.size)
        return (self.op, self.occurrence, self.k, self.size)


class Group(NamedTuple):
    """Pages of the arena that are placed, and move, as one; `node` is where they are when tensors are born.

    Those of a group that is to `keep` them are there from their first use on, and never move.
    """

    offset: int
    size: int
    node: int
    keep: bool


class Move(NamedTuple):
    """Pages go to node `to` from position `at` on, and are there before position `before`.

    Either a group of the arena (`offset`, `size`) or the variable `tensor`, an index into the plan's tensors.
    """

    at: int
    to: int
    before: int
    offset: int | None
    size: int
    tensor: int | None


@dataclass(frozen=True)
class Plan:
    """A plan that keeps the rules of the format. Whether it is sound is for `check` to say.

    `room` is the part of the budget that is for what moves, and for groups that do not keep their pages.
    """

    graph: str
    ops: int
    budget: int
    room: int
    reserved: int
    arena: int
    interval_layers: int
    intervals: list[int]
    tensors: list[Placed]
    groups: list[Group]
    moves: list[Move]
    waits: list[int]
    predicted: dict[str, Any]
    made: dict[str, Any]


def parse(value: Any) -> Plan:
    """The plan in a JSON value. Raises FormatError with the place of the first thing that is wrong."""
    document = header(value, FORMAT, VERSION)
    tensors = [_placed(Fields(t, f"tensors[{i}]")) for i, t in enumerate(document.items("tensors"))]
    predicted = document.fields("predicted")
    for name in ("step_ns", "moved_bytes", "exposed_ns"):
        predicted.integer(name)
    return Plan(
        graph=document.text("graph"),
        ops=document.integer("ops", least=1),
        budget=document.integer("budget"),
        room=document.integer("room"),
        reserved=document.integer("reserved"),
        arena=document.integer("arena"),
        interval_layers=document.integer("interval_layers", least=1),
        intervals=document.integers("intervals").tolist(),
        tensors=tensors,
        groups=[_group(Fields(g, f"groups[{i}]")) for i, g in enumerate(document.items("groups"))],
        moves=[_move(Fields(m, f"moves[{i}]"), tensors) for i, m in enumerate(document.items("moves"))],
        waits=document.integers("waits").tolist(),
        predicted=dict(predicted.all()),
        made=dict(document.fields("made").all()),
    )


def encode(plan: Plan) -> dict[str, Any]:
    """The JSON value of a plan; `parse` gives the same plan again."""
    value = {"format": FORMAT, "version": VERSION, **vars(plan)}
    value["tensors"] = [_tensor(t) for t in plan.tensors]
    value["groups"] = [g._asdict() for g in plan.groups]
    value["moves"] = [
        {name: v for name, v in m._asdict().items() if v is not None and (name != "size" or m.tensor is None)}
        for m in plan.moves
    ]
    return value


def _tensor(t: Placed) -> dict[str, Any]:
    if t.op is None:
        known: dict[str, Any] = {"name": t.name, "size": t.size}
    else:
        known = {"op": t.op, "occurrence": t.occurrence, "k": t.k, "size": t.size}
        known["position"] = t.position
    known.update(pool=t.pool, offset=t.offset)
    return known if t.pool == "short" else {**known, "node": t.node}


def _placed(fields: Fields) -> Placed:
    pool = fields.one_of("pool", POOLS)
    before = not fields.has("op")
    return Placed(
        op=None if before else fields.text("op"),
        occurrence=0 if before else fields.integer("occurrence"),
        k=0 if before else fields.integer("k"),
        size=fields.integer("size"),
        pool=pool,
        offset=None if before and fields.get("offset") is None else fields.integer("offset"),
        node=0 if pool == "short" else fields.integer("node", most=1),
        name=fields.text("name") if before else None,
        position=None if before or fields.get("position") is None else fields.integer("position"),
    )


def _group(fields: Fields) -> Group:
    return Group(
        offset=fields.integer("offset"),
        size=fields.integer("size", least=1),
        node=fields.integer("node", most=1),
        keep=fields.flag("keep"),
    )


def _move(fields: Fields, tensors: list[Placed]) -> Move:
    at, to, before = fields.integer("at"), fields.integer("to", most=1), fields.integer("before")
    if not fields.has("tensor"):
        return Move(at, to, before, fields.integer("offset"), fields.integer("size", least=1), None)
    if fields.has("offset"):
        raise FormatError(f"{fields.at('offset')}: a move has either an offset or a tensor")
    tensor = fields.integer("tensor")
    if tensor >= len(tensors) or tensors[tensor].offset is not None:
        raise FormatError(f"{fields.at('tensor')}: {tensor} is not a variable of the plan")
    return Move(at, to, before, None, tensors[tensor].size, tensor)
