# SPDX-License-Identifier: Apache-2.0
"""The plan: where every tensor is placed, and which pages migrate when (docs/sentinel.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from .fields import Fields, header

FORMAT, VERSION = "sentinel-plan", 1
POOLS = ("short", "long")


class TensorPlacement(NamedTuple):
    """A tensor of the plan. Tensors from before the step have a `name` and no `op`, variables no `offset`.

    `position` is the position of `op`, by which the runtime locates itself in the step. It is None if the
    operation waits for no other one and may therefore begin at any time.
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
        """The same key as `Profile.key`."""
        if self.op is None:
            return ("", self.name, 0, self.size)
        return (self.op, self.occurrence, self.k, self.size)


class Group(NamedTuple):
    """Pages of the arena that are placed and migrated together, born on `node`.

    A group with `keep` never migrates, and retains its pages from their first use on.
    """

    offset: int
    size: int
    node: int
    keep: bool


class Move(NamedTuple):
    """A migration to node `to`: it may start at position `at` and must end before position `before`.

    It moves a group of the arena (`offset`, `size`) or a variable (`tensor`, an index into the plan's
    tensors).
    """

    at: int
    to: int
    before: int
    offset: int | None
    size: int
    tensor: int | None


@dataclass(frozen=True)
class Plan:
    """A plan that is valid in format. `check` decides whether it is sound.

    `migratable_budget` is the part of the budget for units that migrate and for groups without `keep`; its
    JSON key is `room`. `made` records the inputs: digest of the profile, policy, figures.
    """

    graph: str
    ops: int
    budget: int
    migratable_budget: int
    reserved: int
    arena: int
    interval_layers: int
    intervals: list[int]
    tensors: list[TensorPlacement]
    groups: list[Group]
    moves: list[Move]
    waits: list[int]
    predicted: dict[str, Any]
    made: dict[str, Any]


def parse(value: Any) -> Plan:
    """Return the plan in a JSON value. Raises FormatError that names the first invalid field."""
    document = header(value, FORMAT, VERSION)
    tensors = [_parse_tensor(Fields(t, f"tensors[{i}]")) for i, t in enumerate(document.items("tensors"))]
    predicted = document.fields("predicted")
    for name in ("step_ns", "moved_bytes", "exposed_ns"):
        predicted.integer(name)
    return Plan(
        graph=document.text("graph"),
        ops=document.integer("ops", minimum=1),
        budget=document.integer("budget"),
        migratable_budget=document.integer("room"),
        reserved=document.integer("reserved"),
        arena=document.integer("arena"),
        interval_layers=document.integer("interval_layers", minimum=1),
        intervals=document.integers("intervals").tolist(),
        tensors=tensors,
        groups=[_parse_group(Fields(g, f"groups[{i}]")) for i, g in enumerate(document.items("groups"))],
        moves=[_parse_move(Fields(m, f"moves[{i}]"), tensors) for i, m in enumerate(document.items("moves"))],
        waits=document.integers("waits").tolist(),
        predicted=dict(predicted.all()),
        made=dict(document.fields("made").all()),
    )


def encode(plan: Plan) -> dict[str, Any]:
    """Return the JSON value of a plan; the inverse of `parse`."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "graph": plan.graph,
        "ops": plan.ops,
        "budget": plan.budget,
        "room": plan.migratable_budget,
        "reserved": plan.reserved,
        "arena": plan.arena,
        "interval_layers": plan.interval_layers,
        "intervals": plan.intervals,
        "tensors": [_encode_tensor(tensor) for tensor in plan.tensors],
        "groups": [group._asdict() for group in plan.groups],
        "moves": [_encode_move(move) for move in plan.moves],
        "waits": plan.waits,
        "predicted": plan.predicted,
        "made": plan.made,
    }


def _encode_tensor(tensor: TensorPlacement) -> dict[str, Any]:
    if tensor.op is None:
        value: dict[str, Any] = {"name": tensor.name, "size": tensor.size}
    else:
        value = {"op": tensor.op, "occurrence": tensor.occurrence, "k": tensor.k, "size": tensor.size}
        value["position"] = tensor.position
    value.update(pool=tensor.pool, offset=tensor.offset)
    return value if tensor.pool == "short" else {**value, "node": tensor.node}


def _encode_move(move: Move) -> dict[str, Any]:
    """A move of a variable has neither `offset` nor `size`, a move of a group has no `tensor`."""
    omitted = ("offset", "size") if move.offset is None else ("tensor",)
    return {name: value for name, value in move._asdict().items() if name not in omitted}


def _parse_tensor(fields: Fields) -> TensorPlacement:
    pool = fields.one_of("pool", POOLS)
    before_step = not fields.has("op")
    return TensorPlacement(
        op=None if before_step else fields.text("op"),
        occurrence=0 if before_step else fields.integer("occurrence"),
        k=0 if before_step else fields.integer("k"),
        size=fields.integer("size"),
        pool=pool,
        offset=None if before_step and fields.get("offset") is None else fields.integer("offset"),
        node=0 if pool == "short" else fields.integer("node", maximum=1),
        name=fields.text("name") if before_step else None,
        position=None if before_step or fields.get("position") is None else fields.integer("position"),
    )


def _parse_group(fields: Fields) -> Group:
    return Group(
        offset=fields.integer("offset"),
        size=fields.integer("size", minimum=1),
        node=fields.integer("node", maximum=1),
        keep=fields.flag("keep"),
    )


def _parse_move(fields: Fields, tensors: list[TensorPlacement]) -> Move:
    at, to, before = fields.integer("at"), fields.integer("to", maximum=1), fields.integer("before")
    if not fields.has("tensor"):
        return Move(at, to, before, fields.integer("offset"), fields.integer("size", minimum=1), None)
    if fields.has("offset"):
        raise fields.error("offset", "a move has either an offset or a tensor")
    tensor = fields.integer("tensor")
    if tensor >= len(tensors) or tensors[tensor].offset is not None:
        raise fields.error("tensor", f"{tensor} is not a variable of the plan")
    return Move(at, to, before, None, tensors[tensor].size, tensor)
