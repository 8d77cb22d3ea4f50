# SPDX-License-Identifier: Apache-2.0
"""Labels and keys of cells: how reports name a cell, and how comparisons match it.

A resolved cell is a free-form mapping. Its model, policy and machine are either a word or a mapping of
parameters that has a `name` (or `policy`, `kind` or `preset`). The policy is recorded under the key
`placement`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from results.units import printable

Resolved = Mapping[str, Any]
_NAME_KEYS = ("name", "policy", "kind", "preset")
_COMMON = ("model", "batch", "placement", "fast_memory")  # part of every label and key
_MAX_LENGTH = 48  # characters of a name or value in a label


@dataclass(frozen=True)
class Axes:
    """The settings that vary within a run; they make the labels and keys of its cells.

    Model, batch size, policy and budget always count as axes. `varied` lists the flat keys (`model.hidden`,
    `seed`) that have several values within a run. Within a run every cell has its own label and key.
    """

    varied: tuple[str, ...] = ()

    @classmethod
    def of(cls, *runs: Iterable[Resolved]) -> Axes:
        """Return the axes of runs, each given as its cells. Cells known only by id are ignored."""
        groups = [[cell for cell in cells if is_resolved(cell)] for cells in runs]
        return cls(tuple(dict.fromkeys(key for group in groups for key in differing_keys(group))))

    def key(self, cell: Resolved) -> str | None:
        """Return the text that matches the cell between runs, or None if only its id is known."""
        if not is_resolved(cell):
            return None
        extras = sorted({_section(key) for key in self.varied} - set(_COMMON))
        values = [cell.get(name) for name in (*_COMMON, *extras) if name != "batch"]
        return canonical(batch(cell), *values)

    @property
    def names(self) -> list[str]:
        """The axes by name, such as `model, policy, budget, seed`."""
        sections = dict.fromkeys(_section(key) for key in self.varied)
        return ["model", "policy", "budget", *(name for name in sections if name not in _COMMON)]

    def label(self, cell: Resolved) -> str:
        """Return the full label, such as `resnet20 b8, sentinel, 20%`, or the id if nothing else is known."""
        return f"{self.model(cell)}, {self.variant(cell)}" if is_resolved(cell) else self.variant(cell)

    def model(self, cell: Resolved) -> str:
        """Return name, batch size and varied parameters of the model, such as `lstm b8 hidden 64`.

        A script has its arguments: `train.py --epochs 2`.
        """
        size = batch(cell)
        words = [_name(cell.get("model")), *([] if size is None else [f"b{_value(size)}"])]
        return " ".join(words + self._varied_values(cell, "model", skip=("", "name", "batch")))

    def variant(self, cell: Resolved) -> str:
        """Return the part of the label after the model: policy, budget and varied settings."""
        if not is_resolved(cell):
            return str(cell.get("id", "-"))
        return ", ".join(filter(None, (policy(cell), budget(cell), self.settings(cell))))

    def settings(self, cell: Resolved) -> str:
        """Return the varied settings other than model, policy and budget, such as `seed 2, kernel 6.1`."""
        sections = dict.fromkeys(_section(key) for key in self.varied)
        return ", ".join(
            text
            for section in sections
            if section not in _COMMON
            for text in self._varied_values(cell, section, skip=())
        )

    def _varied_values(self, cell: Resolved, section: str, *, skip: tuple[str, ...]) -> list[str]:
        """Return `name value` for each varied key of a section of the cell."""
        # Flattening all settings for each section would take most of the time of a report.
        values = flatten(cell[section], section) if section in cell else flatten(cell)
        result = []
        for key in self.varied:
            parameter = key.partition(".")[2]
            if _section(key) != section or parameter in skip:
                continue
            if values.get(key) is not None:
                title = section if parameter in ("", "name") else parameter if section == "model" else key
                if key == "model.args":  # of a script, as they are typed
                    result.append(_value(shlex.join(values[key])) or "without arguments")
                    continue
                result.append(f"{printable(title)} {_value(values[key])}")
            elif section != "model":
                result.append(f"{printable(key)} -")
        return result


def is_resolved(cell: Resolved) -> bool:
    """Return whether anything but the cell's id is known."""
    return bool(cell.keys() - {"id"})


def policy(cell: Resolved) -> str:
    """Return the policy with its parameters, if any, such as `sentinel`."""
    value = cell.get("placement")
    if not isinstance(value, Mapping):
        return _name(value)
    name_key = next((key for key in _NAME_KEYS if key in value), None)
    parameters = [
        printable(k) if v is True else f"{printable(k)} {_value(v)}"
        for k, v in flatten(value).items()
        if k != name_key and v is not None
    ]
    return ", ".join([_name(value), *parameters])


def policy_name(cell: Resolved) -> str:
    """Return the policy's name without parameters."""
    return _name(cell.get("placement"))


def budget(cell: Resolved) -> str:
    """Return the budget as the suite gives it, such as `20%`, or an empty string."""
    value = cell.get("fast_memory")
    return "" if value is None else _value(value)


def batch(cell: Resolved) -> Any:
    """Return the batch size, a parameter of the model or a setting of the cell, or None."""
    model = cell.get("model")
    return model.get("batch", cell.get("batch")) if isinstance(model, Mapping) else cell.get("batch")


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: `{"model": {"name": "a"}}` becomes `{"model.name": "a"}`."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    result: dict[str, Any] = {}
    for key in sorted(value):
        result.update(flatten(value[key], f"{prefix}.{key}" if prefix else str(key)))
    return result


def canonical(*values: Any) -> str:
    """Return JSON text that is equal if and only if the values are, whatever the order of keys."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def differing_keys(cells: Iterable[Resolved]) -> list[str]:
    """Return the flat keys, except ids, whose values differ between cells.

    Parameters that a name determines are omitted: `model.hidden` if all models of a name have the same value.
    """
    flat_cells = [flatten(cell) for cell in cells]
    keys = sorted({key for flat in flat_cells for key in flat} - {"id"})
    return [key for key in keys if _count(flat_cells, key) > 1 and not _follows_from_name(flat_cells, key)]


def _follows_from_name(flat_cells: list[dict[str, Any]], key: str) -> bool:
    """Return whether cells with equal `machine.name` have equal `machine.KEY`."""
    name = f"{_section(key)}.name"
    if key == name or "." not in key:
        return False
    groups: dict[str, list[dict[str, Any]]] = {}
    for flat in flat_cells:
        groups.setdefault(canonical(flat.get(name, "(none)")), []).append(flat)
    return all(_count(group, key) == 1 for group in groups.values())


def _count(flat_cells: list[dict[str, Any]], key: str) -> int:
    return len({canonical(flat.get(key, "(none)")) for flat in flat_cells})


def _section(key: str) -> str:
    return key.partition(".")[0]


def _name(value: Any) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in _NAME_KEYS if key in value), None)
    return "-" if value is None else _value(value)


def _value(value: Any) -> str:
    """Format a value for a label. Long text is cut and a digest keeps different values apart."""
    text = value if isinstance(value, str) else canonical(value)[1:-1]
    line = printable(text)
    if len(line) <= _MAX_LENGTH:
        return line
    return f"{line[: _MAX_LENGTH - 9]}…{hashlib.sha256(text.encode()).hexdigest()[:8]}"
