# SPDX-License-Identifier: Apache-2.0
"""A profile: what one training step did, with every tensor on pages of its own in slow memory (paper, III-A).

Tables are arrays, one column a field; the uses of all tensors are one table, in order of tensor and position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FormatError
from .fields import LARGEST, Fields, first, header, integers, shown

if TYPE_CHECKING:
    from .fields import Bools, Ints

FORMAT, VERSION = "sentinel-profile", 1
COUNTS, CLOCKS = ("kernel", "ops"), ("model", "guest")
KINDS = ("tensor", "variable", "scratch")
TENSOR, VARIABLE, SCRATCH = range(3)
_PAGES = (64, 1 << 30)  # bytes: the alignment of tensors, and the largest page of x86-64
_ADDRESSES = 1 << 47  # bytes of a process on x86-64; no tensor is larger
_NUMBERS = (
    ("op", -1),
    ("k", 0),
    ("size", 0),
    ("birth", -1),
    ("death", 0),
    ("thread", 0),
    ("reads", 0),
    ("writes", 0),
)


@dataclass(frozen=True)
class Ops:
    """The operations by position. Times are of one clock, whatever its origin."""

    name: list[str]
    type: list[str]
    layer: Ints
    occurrence: Ints
    begin_ns: Ints
    end_ns: Ints

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True)
class Tensors:
    """The tensors; `kind` indexes `KINDS`, `name` is None but for those from before the step.

    `touched` are the bytes of its pages that were accessed at all.
    """

    op: Ints
    k: Ints
    size: Ints
    birth: Ints
    death: Ints
    thread: Ints
    reads: Ints
    writes: Ints
    touched: Ints
    kind: Ints
    name: list[str | None]

    def __len__(self) -> int:
        return len(self.size)

    @property
    def bytes(self) -> Ints:
        """What of it takes memory: pages that nobody touches are never there."""
        return np.minimum(self.size, self.touched)

    @property
    def accesses(self) -> Ints:
        return self.reads + self.writes


@dataclass(frozen=True)
class Uses:
    """Uses of tensors: `tensor` is an index, `reads` and `writes` how often the operation took or made it."""

    tensor: Ints
    position: Ints
    reads: Ints
    writes: Ints


@dataclass(frozen=True)
class Profile:
    """A profile that keeps the rules of the format."""

    graph: str
    page: int
    counts: str
    clock: str
    threads: dict[str, int]
    step_ns: int
    ops: Ops
    tensors: Tensors
    uses: Uses
    warnings: tuple[str, ...] = field(default=())

    @property
    def pages(self) -> Ints:
        """Pages of each tensor, if it has its own."""
        return -(-self.tensors.size // self.page)

    def key(self, i: int) -> tuple[Any, ...]:
        """What a tensor is known by in every step."""
        t = self.tensors
        if t.op[i] < 0:
            return ("", t.name[i], 0, int(t.size[i]))
        op = int(t.op[i])
        return (self.ops.name[op], int(self.ops.occurrence[op]), int(t.k[i]), int(t.size[i]))


def digest(names: Sequence[str]) -> str:
    """The graph's: SHA-256 of the names of all operations, sorted, each followed by a newline."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


def parse(value: Any) -> Profile:
    """The profile in a JSON value. Raises FormatError with the place of the first thing that is wrong."""
    document = header(value, FORMAT, VERSION)
    page = document.integer("page", least=_PAGES[0], most=_PAGES[1])
    if page & (page - 1):
        raise FormatError(f"page: must be a power of two, not {page}")
    threads = document.fields("threads")
    ops = _ops(document.fields("ops"))
    graph = document.text("graph")
    if graph != digest(ops.name):
        raise FormatError("graph: is not the digest of ops.name; the file was mixed or edited")
    tensors, uses = _tensors(document.items("tensors"), len(ops), page)
    profile = Profile(
        graph=graph,
        page=page,
        counts=document.one_of("counts", COUNTS),
        clock=document.one_of("clock", CLOCKS),
        threads={name: threads.integer(name) for name in ("inter_op", "intra_op")},
        step_ns=document.integer("step_ns", least=1),
        ops=ops,
        tensors=tensors,
        uses=uses,
        warnings=tuple(document.texts("warnings")) if document.has("warnings") else (),
    )
    _no_two_alike(profile)
    return profile


def encode(profile: Profile) -> dict[str, Any]:
    """The JSON value of a profile; `parse` gives the same profile again."""
    ops, t, u = profile.ops, profile.tensors, profile.uses
    columns = {name: getattr(t, name).tolist() for name, _ in _NUMBERS}
    touched = t.touched.tolist()
    rows = np.column_stack((u.position, u.reads, u.writes)).tolist()
    ends = np.searchsorted(u.tensor, np.arange(len(t) + 1)).tolist()
    tensors = []
    for i in range(len(t)):
        row: dict[str, Any] = {name: column[i] for name, column in columns.items()}
        row["touched"] = touched[i]
        row["uses"] = rows[ends[i] : ends[i + 1]]
        row["kind"] = KINDS[t.kind[i]]
        if t.name[i] is not None:
            row["name"] = t.name[i]
        tensors.append(row)
    return {
        "format": FORMAT,
        "version": VERSION,
        "graph": profile.graph,
        "page": profile.page,
        "counts": profile.counts,
        "clock": profile.clock,
        "threads": profile.threads,
        "step_ns": profile.step_ns,
        "ops": {
            "name": ops.name,
            "type": ops.type,
            **{f: getattr(ops, f).tolist() for f in ("layer", "occurrence", "begin_ns", "end_ns")},
        },
        "tensors": tensors,
        "warnings": list(profile.warnings),
    }


def _ops(fields: Fields) -> Ops:
    ops = Ops(
        name=fields.texts("name"),
        type=fields.texts("type"),
        layer=fields.integers("layer"),
        occurrence=fields.integers("occurrence"),
        begin_ns=fields.integers("begin_ns"),
        end_ns=fields.integers("end_ns"),
    )
    if not ops.name:
        raise FormatError(f"{fields.at('name')}: there is no operation")
    for column in ("type", "layer", "occurrence", "begin_ns", "end_ns"):
        if len(getattr(ops, column)) != len(ops):
            raise FormatError(
                f"{fields.at(column)}: has {len(getattr(ops, column))} entries, and ops.name {len(ops)}"
            )
    for column in ("layer", "begin_ns"):
        i = first(np.diff(getattr(ops, column)) < 0)
        if i >= 0:
            raise FormatError(f"{fields.at(column)}[{i + 1}]: is less than the one before")
    i = first(ops.end_ns < ops.begin_ns)
    if i >= 0:
        raise FormatError(f"{fields.at('end_ns')}[{i}]: is before its beginning")
    return ops


def _tensors(items: list[Any], n: int, page: int) -> tuple[Tensors, Uses]:
    columns = {name: _column(items, name, least) for name, least in _NUMBERS}
    i = first(columns["size"] > _ADDRESSES)
    if i >= 0:
        raise FormatError(f"tensors[{i}].size: {columns['size'][i]} bytes exceed the address space")
    kinds, names = _kinds(items)
    whole = -(-columns["size"] // page) * page
    given = [item.get("touched") for item in items]
    touched = [most if one is None else one for one, most in zip(given, whole.tolist())]
    columns["touched"] = np.minimum(whole, integers(touched, lambda i: f"tensors[{i}].touched"))
    tensors = Tensors(kind=kinds, name=names, **columns)

    def refuse(wrong: Bools, field: str, message: str) -> None:
        i = first(wrong)
        if i >= 0:
            value = getattr(tensors, field)[i]
            raise FormatError(f"tensors[{i}].{field}: {value} {message}")

    refuse(tensors.op >= n, "op", f"is not a position before {n}")
    refuse(tensors.birth >= n, "birth", f"is not a position before {n}")
    refuse(tensors.death > n, "death", f"is after the step, which ends at {n}")
    refuse(tensors.death <= tensors.birth, "death", "is not after its birth")
    refuse(
        (tensors.op < 0) != (tensors.birth < 0), "birth", "and `op` do not agree on whether it is from before"
    )
    refuse(tensors.birth < tensors.op, "birth", "is before the operation that allocates it begins")
    tensors = replace(tensors, birth=tensors.op)  # what other threads began meanwhile does not matter
    variable = tensors.kind == VARIABLE
    refuse(variable & (tensors.birth >= 0), "birth", "is in the step, and a variable is from before it")
    refuse(variable & (tensors.death < n), "death", "is in the step, and a variable outlives it")
    refuse(
        (tensors.kind == SCRATCH) & ((tensors.birth < 0) | (tensors.death != tensors.birth + 1)),
        "death",
        "is not at the end of the operation it was born in, as of scratch",
    )
    for i in np.flatnonzero(tensors.op < 0).tolist():
        if not names[i]:
            raise FormatError(f"tensors[{i}].name: is missing, and the tensor is from before the step")
    for name, values in (("size", whole), ("reads", tensors.reads), ("writes", tensors.writes)):
        if sum(values.tolist()) > LARGEST // 4:
            raise FormatError(f"tensors: the sum of `{name}` must be at most 2^60")
    return tensors, _uses(items, tensors)


def _uses(items: list[Any], tensors: Tensors) -> Uses:
    lists = [item.get("uses") for item in items]
    for i in np.flatnonzero(tensors.kind == SCRATCH).tolist():
        if lists[i] == []:  # nobody takes or makes it, but its operation uses it, as its accesses say
            lists[i] = [[int(tensors.birth[i]), int(tensors.reads[i] > 0), int(tensors.writes[i] > 0)]]
    for i, one in enumerate(lists):
        if type(one) is not list:
            raise FormatError(f"tensors[{i}].uses: must be a list, not {shown(one)}")
    rows = list(chain.from_iterable(lists))
    owner = np.repeat(np.arange(len(items), dtype=np.int64), [len(one) for one in lists])

    def at(i: int) -> str:
        return f"tensors[{owner[i]}].uses[{i - int(np.searchsorted(owner, owner[i]))}]"

    for i, row in enumerate(rows):
        if type(row) is not list or len(row) != 3:
            raise FormatError(f"{at(i)}: must be [position, reads, writes], not {shown(row)}")
    table = integers(list(chain.from_iterable(rows)), lambda i: at(i // 3)).reshape(-1, 3)
    uses = Uses(tensor=owner, position=table[:, 0], reads=table[:, 1], writes=table[:, 2])
    i = first((np.diff(uses.position) <= 0) & (np.diff(owner) == 0))
    if i >= 0:
        raise FormatError(f"{at(i + 1)}: position {uses.position[i + 1]} is not after the one before")
    i = first((uses.position < tensors.birth[owner]) | (uses.position >= tensors.death[owner]))
    if i >= 0:
        raise FormatError(f"{at(i)}: position {uses.position[i]} is outside the tensor's life")
    return uses


def _column(items: list[Any], name: str, least: int) -> Ints:
    try:
        values = [item[name] for item in items]
    except (KeyError, TypeError):
        for i, item in enumerate(items):
            Fields(item, f"tensors[{i}]").get(name)
        raise
    return integers(values, lambda i: f"tensors[{i}].{name}", least=least)


def _kinds(items: list[Any]) -> tuple[Ints, list[str | None]]:
    numbers = {name: i for i, name in enumerate(KINDS)}
    names: list[str | None] = [item.get("name") for item in items]
    kinds = []
    for i, item in enumerate(items):
        kind = item.get("kind")
        if type(kind) is not str or kind not in numbers:
            kind = Fields(item, f"tensors[{i}]").one_of("kind", KINDS)
        kinds.append(numbers[kind])
        if names[i] is not None and type(names[i]) is not str:
            raise FormatError(f"tensors[{i}].name: must be text, not {shown(names[i])}")
    return np.array(kinds, dtype=np.int64), names


def _no_two_alike(profile: Profile) -> None:
    """The runtime finds a tensor by its key: two of one key could not be told apart."""
    seen: dict[tuple[Any, ...], int] = {}
    for i in range(len(profile.tensors)):
        other = seen.setdefault(profile.key(i), i)
        if other != i:
            raise FormatError(f"tensors[{i}]: has the key of tensors[{other}]")
