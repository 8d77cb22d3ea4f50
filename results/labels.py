# SPDX-License-Identifier: Apache-2.0
"""What a cell is called, what it is matched by, and in what cells differ.

A resolved cell is a free-form mapping; a model, a placement or a machine in it is a word, or a mapping with a
`name` (`policy`, `kind` or `preset` will do) beside its parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from results.units import plain

Resolved = Mapping[str, Any]
_HEADS = ("name", "policy", "kind", "preset")
_ALWAYS = ("model", "batch", "placement", "fast_memory")  # named in every label, part of every key
_LONGEST = 48  # characters of a name or a value


@dataclass(frozen=True)
class Axes:
    """What runs vary: the one source of the labels and the keys of their cells.

    Model, batch, placement and budget are always axes. `varied` holds the flat keys (`model.hidden`, `seed`)
    that take several values within a run. Two cells of a run with equal keys are the same cell.
    """

    varied: tuple[str, ...] = ()

    @classmethod
    def of(cls, *runs: Iterable[Resolved]) -> Axes:
        """The axes of some runs, each given by its cells. Cells known by their id alone do not count."""
        groups = [[cell for cell in cells if known(cell)] for cells in runs]
        return cls(tuple(dict.fromkeys(key for group in groups for key in differing(group))))

    def key(self, cell: Resolved) -> str | None:
        """What the cell is matched by between runs; None for a cell known by its id alone."""
        if not known(cell):
            return None
        others = sorted({_head_of(key) for key in self.varied} - set(_ALWAYS))
        values = [cell.get(name) for name in (*_ALWAYS, *others) if name != "batch"]
        return canonical(batch(cell), *values)

    @property
    def names(self) -> list[str]:
        """The axes in words, for instance `model, placement, budget, seed`."""
        others = dict.fromkeys(_head_of(key) for key in self.varied)
        return ["model", "placement", "budget", *(name for name in others if name not in _ALWAYS)]

    def label(self, cell: Resolved) -> str:
        """For instance `resnet20 b8, sentinel, 20%`; the id of a cell known by nothing else."""
        return f"{self.model(cell)}, {self.setting(cell)}" if known(cell) else self.setting(cell)

    def model(self, cell: Resolved) -> str:
        """For instance `lstm b8`: name, batch size, and the parameters that vary."""
        size = batch(cell)
        words = [_name(cell.get("model")), *([] if size is None else [f"b{_value(size)}"])]
        return " ".join(words + self._varied(cell, "model", but=("", "name", "batch")))

    def setting(self, cell: Resolved) -> str:
        """What tells apart the cells of a model: placement, budget, and what else varies."""
        if not known(cell):
            return str(cell.get("id", "-"))
        return ", ".join(filter(None, (placement(cell), budget(cell), self.also(cell))))

    def also(self, cell: Resolved) -> str:
        """What varies beside model, placement and budget, for instance `seed 2, kernel 6.1`."""
        others = dict.fromkeys(_head_of(key) for key in self.varied)
        return ", ".join(
            text for head in others if head not in _ALWAYS for text in self._varied(cell, head, but=())
        )

    def _varied(self, cell: Resolved, head: str, *, but: tuple[str, ...]) -> list[str]:
        """The varied keys below `head` that the cell has, each with its value."""
        values = flat(cell)
        result = []
        for key in self.varied:
            rest = key.partition(".")[2]
            if _head_of(key) != head or rest in but:
                continue
            if values.get(key) is not None:
                title = head if rest in ("", "name") else rest if head == "model" else key
                result.append(f"{plain(title)} {_value(values[key])}")
            elif head != "model":
                result.append(f"{plain(key)} -")
        return result


def known(cell: Resolved) -> bool:
    """Whether more than the cell's id is known."""
    return bool(cell.keys() - {"id"})


def placement(cell: Resolved) -> str:
    """For instance `sentinel`: the placement's name, and its parameters if it has any."""
    value = cell.get("placement")
    if not isinstance(value, Mapping):
        return _name(value)
    head = next((key for key in _HEADS if key in value), None)
    rest = [f"{plain(k)} {_value(v)}" for k, v in flat(value).items() if k != head and v is not None]
    return ", ".join([_name(value), *rest])


def placement_name(cell: Resolved) -> str:
    """The placement's name without its parameters."""
    return _name(cell.get("placement"))


def budget(cell: Resolved) -> str:
    """The budget of fast memory as the suite says it, for instance `20%`; empty where there is none."""
    value = cell.get("fast_memory")
    return "" if value is None else _value(value)


def batch(cell: Resolved) -> Any:
    """The batch size, which may stand in the model or beside it; None if it does not."""
    model = cell.get("model")
    return model.get("batch", cell.get("batch")) if isinstance(model, Mapping) else cell.get("batch")


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level: `{"model": {"name": "a"}}` becomes `{"model.name": "a"}`."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    result: dict[str, Any] = {}
    for key in sorted(value):
        result.update(flat(value[key], f"{prefix}.{key}" if prefix else str(key)))
    return result


def canonical(*values: Any) -> str:
    """Text that is equal exactly if the values are, independent of key order."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def differing(cells: Iterable[Resolved]) -> list[str]:
    """The keys (`machine.name`) whose values are not the same in all cells; ids do not count.

    A key that a mapping's name decides is left out: `model.hidden`, if all models of a name have the same.
    """
    flats = [flat(cell) for cell in cells]
    keys = sorted({key for f in flats for key in f} - {"id"})
    return [key for key in keys if _count(flats, key) > 1 and not _follows_from_name(flats, key)]


def _follows_from_name(flats: list[dict[str, Any]], key: str) -> bool:
    """Whether cells with the same `machine.name` have the same `machine.KEY`."""
    name = f"{_head_of(key)}.name"
    if key == name or "." not in key:
        return False
    groups: dict[str, list[dict[str, Any]]] = {}
    for f in flats:
        groups.setdefault(canonical(f.get(name, "(none)")), []).append(f)
    return all(_count(group, key) == 1 for group in groups.values())


def _count(flats: list[dict[str, Any]], key: str) -> int:
    return len({canonical(f.get(key, "(none)")) for f in flats})


def _head_of(key: str) -> str:
    return key.partition(".")[0]


def _name(value: Any) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in _HEADS if key in value), None)
    return "-" if value is None else _value(value)


def _value(value: Any) -> str:
    """A value in a label. What is too long is cut, with a digest that keeps different values apart."""
    text = value if isinstance(value, str) else canonical(value)[1:-1]
    shown = plain(text)
    if len(shown) <= _LONGEST:
        return shown
    return f"{shown[: _LONGEST - 9]}…{hashlib.sha256(text.encode()).hexdigest()[:8]}"
