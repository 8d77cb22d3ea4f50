# SPDX-License-Identifier: Apache-2.0
"""The plan: where every tensor is placed, and which pages migrate when (docs/sentinel.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .fields import Fields, header

FORMAT = "sentinel-plan"
MOVE_PAGES, FRAMES = 1, 2  # versions: how groups migrate
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

    A group with `keep` never migrates, and retains its pages from their first use on. With frames, a
    migratable group that is born on node 0 has the range of the fast frame pool from `frame` on.
    """

    offset: int
    size: int
    node: int
    keep: bool
    frame: int | None = None


class Move(NamedTuple):
    """A migration to node `to`: it may start at position `at` and must end before position `before`.

    It moves a group of the arena (`offset`, `size`) or a variable (`tensor`, an index into the plan's
    tensors). With frames, a group may be read until position `map`, from which on its window may be remapped;
    a promoted one then has the range of the fast frame pool from `frame` on. Without `copy`, its home still
    has its content.
    """

    at: int
    to: int
    before: int
    offset: int | None
    size: int
    tensor: int | None
    map: int | None = None
    frame: int | None = None
    copy: bool = True


class Use(NamedTuple):
    """An operation that allocates or uses a migratable group. `position` as that of a tensor."""

    op: str
    occurrence: int
    position: int | None


@dataclass(frozen=True)
class Plan:
    """A plan that is valid in format. `check` decides whether it is sound.

    `migratable_budget` is the part of the budget for units that migrate and for groups without `keep`; its
    JSON key is `room`. With frames, groups have `frames` bytes instead, and `uses` has the operations that
    use them; at most `cores` threads migrate them, if it is given. `made` records the inputs: digest of the
    profile, policy, figures.
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
    frames: int | None = None
    uses: list[Use] = field(default_factory=list)
    cores: int | None = None

    @property
    def has_frames(self) -> bool:
        """Whether groups migrate by frames instead of `move_pages`."""
        return self.frames is not None


def parse(value: Any) -> Plan:
    """Return the plan in a JSON value. Raises FormatError that names the first invalid field."""
    document = header(value, FORMAT, MOVE_PAGES, FRAMES)
    has_frames = document.integer("version") == FRAMES
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
        groups=[
            _parse_group(Fields(g, f"groups[{i}]"), has_frames)
            for i, g in enumerate(document.items("groups"))
        ],
        moves=[
            _parse_move(Fields(m, f"moves[{i}]"), tensors, has_frames)
            for i, m in enumerate(document.items("moves"))
        ],
        waits=document.integers("waits").tolist(),
        predicted=dict(predicted.all()),
        made=dict(document.fields("made").all()),
        frames=document.integer("frames") if has_frames else None,
        uses=_parse_uses(document) if has_frames else [],
        cores=document.integer("cores", minimum=1) if has_frames and document.has("cores") else None,
    )


def encode(plan: Plan) -> dict[str, Any]:
    """Return the JSON value of a plan; the inverse of `parse`."""
    value = {
        "format": FORMAT,
        "version": FRAMES if plan.has_frames else MOVE_PAGES,
        "graph": plan.graph,
        "ops": plan.ops,
        "budget": plan.budget,
        "room": plan.migratable_budget,
        "reserved": plan.reserved,
        "arena": plan.arena,
        "interval_layers": plan.interval_layers,
        "intervals": plan.intervals,
        "tensors": [_encode_tensor(tensor) for tensor in plan.tensors],
        "groups": [_encode_group(group, plan.has_frames) for group in plan.groups],
        "moves": [_encode_move(move, plan.has_frames) for move in plan.moves],
        "waits": plan.waits,
        "predicted": plan.predicted,
        "made": plan.made,
    }
    if not plan.has_frames:
        return value
    cores = {} if plan.cores is None else {"cores": plan.cores}
    return {**value, "frames": plan.frames, "uses": list(map(list, plan.uses)), **cores}


def _encode_tensor(tensor: TensorPlacement) -> dict[str, Any]:
    if tensor.op is None:
        value: dict[str, Any] = {"name": tensor.name, "size": tensor.size}
    else:
        value = {"op": tensor.op, "occurrence": tensor.occurrence, "k": tensor.k, "size": tensor.size}
        value["position"] = tensor.position
    value.update(pool=tensor.pool, offset=tensor.offset)
    return value if tensor.pool == "short" else {**value, "node": tensor.node}


def _encode_group(group: Group, has_frames: bool) -> dict[str, Any]:
    value = group._asdict()
    if not has_frames:
        del value["frame"]
    return value


def _encode_move(move: Move, has_frames: bool) -> dict[str, Any]:
    """A move of a variable has neither `offset` nor `size`, a move of a group has no `tensor`."""
    omitted: tuple[str, ...] = ("offset", "size") if move.offset is None else ("tensor",)
    if move.offset is None or not has_frames:
        omitted += ("map", "frame", "copy")
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


def _parse_group(fields: Fields, has_frames: bool) -> Group:
    node, keep = fields.integer("node", maximum=1), fields.flag("keep")
    return Group(
        offset=fields.integer("offset"),
        size=fields.integer("size", minimum=1),
        node=node,
        keep=keep,
        frame=fields.integer("frame") if has_frames and node == 0 and not keep else None,
    )


def _parse_move(fields: Fields, tensors: list[TensorPlacement], has_frames: bool) -> Move:
    at, to, before = fields.integer("at"), fields.integer("to", maximum=1), fields.integer("before")
    if not fields.has("tensor"):
        move = Move(at, to, before, fields.integer("offset"), fields.integer("size", minimum=1), None)
        if not has_frames:
            return move
        return move._replace(
            map=fields.integer("map", minimum=at, maximum=before),
            frame=fields.integer("frame") if to == 0 else None,
            copy=fields.flag("copy"),
        )
    if fields.has("offset"):
        raise fields.error("offset", "a move has either an offset or a tensor")
    tensor = fields.integer("tensor")
    if tensor >= len(tensors) or tensors[tensor].offset is not None:
        raise fields.error("tensor", f"{tensor} is not a variable of the plan")
    return Move(at, to, before, None, tensors[tensor].size, tensor)


def _parse_uses(document: Fields) -> list[Use]:
    uses = []
    for i, value in enumerate(document.items("uses")):
        if (
            not isinstance(value, list)
            or len(value) != len(Use._fields)
            or not isinstance(value[0], str)
            or not all(type(n) is int and n >= 0 for n in value[1:] if n is not None)
            or value[1] is None
        ):
            raise document.error(f"uses[{i}]", "must be [operation, occurrence, position or null]")
        uses.append(Use(*value))
    return uses
