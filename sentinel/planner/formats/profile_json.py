# SPDX-License-Identifier: Apache-2.0
"""Profiles as JSON: the rules of the format, checked while parsing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FormatError
from .fields import LARGEST, Fields, first_true, header, integers, show
from .profile import KINDS, SCRATCH, VARIABLE, Native, Ops, Profile, Tensors, Uses

if TYPE_CHECKING:
    from .fields import Bools, Floats, Ints

FORMAT, VERSION = "sentinel-profile", 1
COUNTS, CLOCKS = ("kernel", "ops"), ("model", "guest", "cpu")
_PAGE_LIMITS = (64, 1 << 30)  # bytes: the alignment of tensors, and the largest page of x86-64
_ADDRESS_SPACE = 1 << 47  # bytes of a process on x86-64
_OP_COLUMNS = ("layer", "occurrence", "begin_ns", "end_ns")
_TENSOR_MINIMA = {
    "op": -1,
    "k": 0,
    "size": 0,
    "birth": -1,
    "death": 0,
    "thread": 0,
    "reads": 0,
    "writes": 0,
}


def digest(names: Sequence[str]) -> str:
    """Return the digest of a graph: SHA-256 of the sorted names of all operations, a newline after each."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


def parse(value: Any) -> Profile:
    """Return the profile in a JSON value. Raises FormatError that names the first invalid field."""
    document = header(value, FORMAT, VERSION)
    page_bytes = document.integer("page", minimum=_PAGE_LIMITS[0], maximum=_PAGE_LIMITS[1])
    if page_bytes & (page_bytes - 1):
        raise document.error("page", f"must be a power of two, not {page_bytes}")
    threads = document.fields("threads")
    ops = _parse_ops(document.fields("ops"))
    graph = document.text("graph")
    if graph != digest(ops.name):
        raise document.error("graph", "is not the digest of ops.name; was the file edited?")
    tensors, uses = _parse_tensors(document.items("tensors"), len(ops), page_bytes)
    if document.has("saved_ns"):
        uses = replace(uses, saved_ns=_parse_savings(document, len(uses.tensor)))
    profile = Profile(
        graph=graph,
        page_bytes=page_bytes,
        counts=document.one_of("counts", COUNTS),
        clock=document.one_of("clock", CLOCKS),
        threads={name: threads.integer(name) for name in ("inter_op", "intra_op")},
        step_ns=document.integer("step_ns", minimum=1),
        ops=ops,
        tensors=tensors,
        uses=uses,
        warnings=tuple(document.texts("warnings")) if document.has("warnings") else (),
        native=_parse_native(document.fields("native")) if document.has("native") else None,
    )
    _check_keys(profile)
    return profile


def encode(profile: Profile) -> dict[str, Any]:
    """Return the JSON value of a profile; the inverse of `parse`."""
    ops, t, u = profile.ops, profile.tensors, profile.uses
    columns = {name: getattr(t, name).tolist() for name in (*_TENSOR_MINIMA, "touched")}
    uses = np.column_stack((u.position, u.reads, u.writes)).tolist()
    ends = np.searchsorted(u.tensor, np.arange(len(t) + 1)).tolist()
    tensors = []
    for i in range(len(t)):
        row: dict[str, Any] = {name: column[i] for name, column in columns.items()}
        row["uses"] = uses[ends[i] : ends[i + 1]]
        row["kind"] = KINDS[t.kind[i]]
        if t.name[i] is not None:
            row["name"] = t.name[i]
        tensors.append(row)
    return {
        "format": FORMAT,
        "version": VERSION,
        "graph": profile.graph,
        "page": profile.page_bytes,
        "counts": profile.counts,
        "clock": profile.clock,
        "threads": profile.threads,
        "step_ns": profile.step_ns,
        "ops": {
            "name": ops.name,
            "type": ops.type,
            **{column: getattr(ops, column).tolist() for column in _OP_COLUMNS},
            **({} if ops.fast_ns is None else {"fast_ns": ops.fast_ns.tolist()}),
        },
        "tensors": tensors,
        **({} if u.saved_ns is None else {"saved_ns": u.saved_ns.tolist()}),
        "warnings": list(profile.warnings),
        **({} if profile.native is None else {"native": dict(vars(profile.native))}),
    }


def _parse_savings(document: Fields, count: int) -> Floats:
    saved_ns = document.numbers("saved_ns")
    if len(saved_ns) != count:
        raise document.error("saved_ns", f"has {len(saved_ns)} entries, but the tensors have {count} uses")
    return saved_ns


def _parse_native(fields: Fields) -> Native:
    speeds = (fields.positive(name) for name in ("core_speed", "socket_speed"))
    return Native(fields.text("processor"), *speeds)


def _parse_ops(fields: Fields) -> Ops:
    ops = Ops(
        name=fields.texts("name"),
        type=fields.texts("type"),
        layer=fields.integers("layer"),
        occurrence=fields.integers("occurrence"),
        begin_ns=fields.integers("begin_ns"),
        end_ns=fields.integers("end_ns"),
        fast_ns=fields.integers("fast_ns", minimum=-1) if fields.has("fast_ns") else None,
    )
    if not ops.name:
        raise fields.error("name", "must name at least one operation")
    for column in ("type", *_OP_COLUMNS, *(() if ops.fast_ns is None else ("fast_ns",))):
        length = len(getattr(ops, column))
        if length != len(ops):
            raise fields.error(column, f"has {length} entries, but ops.name has {len(ops)}")
    for column in ("layer", "begin_ns"):
        i = first_true(np.diff(getattr(ops, column)) < 0)
        if i >= 0:
            raise FormatError(f"{fields.at(column)}[{i + 1}]: is less than the previous entry")
    i = first_true(ops.end_ns < ops.begin_ns)
    if i >= 0:
        raise FormatError(f"{fields.at('end_ns')}[{i}]: is before the operation's begin_ns")
    return ops


def _parse_tensors(items: list[Any], n: int, page_bytes: int) -> tuple[Tensors, Uses]:
    """Parse the tensors of a step of `n` operations."""
    columns = {name: _parse_column(items, name, minimum) for name, minimum in _TENSOR_MINIMA.items()}
    i = first_true(columns["size"] > _ADDRESS_SPACE)
    if i >= 0:
        raise FormatError(f"tensors[{i}].size: {columns['size'][i]} bytes exceed the address space")
    kinds, names = _parse_kinds(items)
    page_sizes = -(-columns["size"] // page_bytes) * page_bytes
    touched = [
        page_size if item.get("touched") is None else item["touched"]
        for item, page_size in zip(items, page_sizes.tolist())
    ]
    columns["touched"] = np.minimum(page_sizes, integers(touched, lambda i: f"tensors[{i}].touched"))
    tensors = Tensors(kind=kinds, name=names, **columns)
    _check_lifetimes(tensors, n)
    for name, values in (("size", page_sizes), ("reads", tensors.reads), ("writes", tensors.writes)):
        if sum(values.tolist()) > LARGEST // 4:
            raise FormatError(f"tensors: the sum of `{name}` must be at most 2^60")
    tensors = replace(tensors, birth=tensors.op)  # other threads may have begun operations in between
    return tensors, _parse_uses(items, tensors)


def _check_lifetimes(tensors: Tensors, n: int) -> None:
    def refuse(invalid: Bools, column: str, message: str) -> None:
        i = first_true(invalid)
        if i >= 0:
            raise FormatError(f"tensors[{i}].{column}: {getattr(tensors, column)[i]} {message}")

    t, variable, scratch = tensors, tensors.kind == VARIABLE, tensors.kind == SCRATCH
    refuse(t.op >= n, "op", f"is not a position before {n}")
    refuse(t.birth >= n, "birth", f"is not a position before {n}")
    refuse(t.death > n, "death", f"is after the step, which ends at {n}")
    refuse(t.death <= t.birth, "death", "is not after its birth")
    refuse((t.op < 0) != (t.birth < 0), "birth", "contradicts `op`: both or none must be before the step")
    refuse(t.birth < t.op, "birth", "is before the operation that allocates it begins")
    refuse(variable & (t.birth >= 0), "birth", "is within the step, but a variable is born before it")
    refuse(variable & (t.death < n), "death", "is within the step, but a variable outlives it")
    refuse(
        scratch & ((t.birth < 0) | (t.death != t.op + 1)),
        "death",
        "is not the end of the operation that allocates it, as for all scratch",
    )
    for i in np.flatnonzero(t.op < 0).tolist():
        if not t.name[i]:
            raise FormatError(f"tensors[{i}].name: is missing, but the tensor is from before the step")


def _parse_uses(items: list[Any], tensors: Tensors) -> Uses:
    lists = [item.get("uses") for item in items]
    for i in np.flatnonzero(tensors.kind == SCRATCH).tolist():
        if lists[i] == []:  # only its own operation uses it, as the accesses show
            lists[i] = [[int(tensors.birth[i]), int(tensors.reads[i] > 0), int(tensors.writes[i] > 0)]]
    for i, uses_of_tensor in enumerate(lists):
        if type(uses_of_tensor) is not list:
            raise FormatError(f"tensors[{i}].uses: must be a list, not {show(uses_of_tensor)}")
    rows = list(chain.from_iterable(lists))
    owner = np.repeat(np.arange(len(items), dtype=np.int64), list(map(len, lists)))

    def path_of(i: int) -> str:
        return f"tensors[{owner[i]}].uses[{i - int(np.searchsorted(owner, owner[i]))}]"

    for i, row in enumerate(rows):
        if type(row) is not list or len(row) != 3:
            raise FormatError(f"{path_of(i)}: must be [position, reads, writes], not {show(row)}")
    table = integers(list(chain.from_iterable(rows)), lambda i: path_of(i // 3)).reshape(-1, 3)
    uses = Uses(tensor=owner, position=table[:, 0], reads=table[:, 1], writes=table[:, 2])
    i = first_true((np.diff(uses.position) <= 0) & (np.diff(owner) == 0))
    if i >= 0:
        raise FormatError(f"{path_of(i + 1)}: position {uses.position[i + 1]} is not after the previous one")
    i = first_true((uses.position < tensors.birth[owner]) | (uses.position >= tensors.death[owner]))
    if i >= 0:
        raise FormatError(f"{path_of(i)}: position {uses.position[i]} is outside the tensor's lifetime")
    return uses


def _parse_column(items: list[Any], name: str, minimum: int) -> Ints:
    try:
        values = [item[name] for item in items]
    except (KeyError, TypeError):
        for i, item in enumerate(items):
            Fields(item, f"tensors[{i}]").get(name)
        raise
    return integers(values, lambda i: f"tensors[{i}].{name}", minimum=minimum)


def _parse_kinds(items: list[Any]) -> tuple[Ints, list[str | None]]:
    numbers = {name: i for i, name in enumerate(KINDS)}
    names: list[str | None] = [item.get("name") for item in items]
    kinds = []
    for i, item in enumerate(items):
        kind = item.get("kind")
        if type(kind) is not str or kind not in numbers:
            kind = Fields(item, f"tensors[{i}]").one_of("kind", KINDS)
        kinds.append(numbers[kind])
        if names[i] is not None and type(names[i]) is not str:
            raise FormatError(f"tensors[{i}].name: must be text, not {show(names[i])}")
    return np.array(kinds, dtype=np.int64), names


def _check_keys(profile: Profile) -> None:
    """Refuse equal keys: the runtime identifies a tensor by its key."""
    indices: dict[tuple[Any, ...], int] = {}
    for i in range(len(profile.tensors)):
        other = indices.setdefault(profile.key(i), i)
        if other != i:
            raise FormatError(f"tensors[{i}]: has the same key as tensors[{other}]")
