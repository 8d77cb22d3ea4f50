# SPDX-License-Identifier: Apache-2.0
"""What a cell is called, and in what cells differ.

A resolved cell is a free-form mapping; a model, a placement or a machine in it is a word, or a mapping with a
`name` (`policy`, `kind` or `preset` will do) beside its parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from results.units import plain

Resolved = Mapping[str, Any]
_HEADS = ("name", "policy", "kind", "preset")
_TOO_LONG = 48  # characters


def model_label(cell: Resolved) -> str:
    """For instance `resnet20 b8`: the model's name and its batch size."""
    name = _head(cell.get("model"))
    size = batch(cell)
    return name if size is None else f"{name} b{plain(str(size))}"


def placement_label(cell: Resolved) -> str:
    """For instance `sentinel, fast_memory 20%`: the placement's name and its parameters."""
    placement = cell.get("placement")
    if not isinstance(placement, dict):
        return _head(placement)
    head = next((key for key in _HEADS if key in placement), None)
    rest = [f"{k} {v}" for k, v in flat(placement).items() if k != head and v is not None]
    return _cut(", ".join([_head(placement), *rest]))


def label(cell: Resolved) -> str:
    """Model and placement in one line; the id where neither is known."""
    if "model" not in cell and "placement" not in cell:
        return str(cell.get("id", "-"))
    return f"{model_label(cell)}, {placement_label(cell)}"


def batch(cell: Resolved) -> Any:
    """The batch size, which may stand in the model or beside it; None if it does not."""
    model = cell.get("model")
    return model.get("batch", cell.get("batch")) if isinstance(model, dict) else cell.get("batch")


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

    Where two mappings have different names, their names say it all: what else differs in them is left out.
    """
    flats = [flat(cell) for cell in cells]
    keys = sorted({key for f in flats for key in f} - {"id"})
    found = [key for key in keys if len({canonical(f.get(key, "(none)")) for f in flats}) > 1]
    named = {key.partition(".")[0] for key in found if key.count(".") == 1 and key.endswith(".name")}
    return [key for key in found if key.partition(".")[0] not in named or key.endswith(".name")]


def also(cell: Resolved, keys: Iterable[str]) -> str:
    """The values of `keys` that model and placement do not show, for instance `seed 2, kernel 6.1`."""
    values = flat(cell)
    shown = [
        f"{key.removesuffix('.name')} {values.get(key, '-')}"
        for key in keys
        if key not in ("model", "model.name", "model.batch", "batch") and key.partition(".")[0] != "placement"
    ]
    return plain(", ".join(shown[:3] + ([f"and {len(shown) - 3} more"] if len(shown) > 3 else [])))


def _head(value: Any) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in _HEADS if key in value), None)
    return "-" if value is None else _cut(str(value))


def _cut(text: str) -> str:
    text = plain(text)
    return text if len(text) <= _TOO_LONG else text[: _TOO_LONG - 1] + "…"
