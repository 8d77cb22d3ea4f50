# SPDX-License-Identifier: Apache-2.0
"""Check that losses agree bit for bit: the placement of tensors must not change what is computed.

Repeats with the same model, batch size and seed must have equal losses. They are compared step by step,
including warm-up. Steps that only one repeat has are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from results import labels
from results.labels import Axes
from results.runs import Cell, Repeat

Outcome = Literal["equal", "differ", "not compared"]


@dataclass(frozen=True)
class Sequence:
    """The losses of a repeat by step number, as `float.hex()`; `name` identifies the repeat."""

    name: str
    losses: Mapping[int, str]


@dataclass(frozen=True)
class Check:
    """The outcome for repeats that must agree; `text` explains it in one line."""

    title: str
    outcome: Outcome
    text: str


def sequence(axes: Axes, cell: Cell, repeat: Repeat, *, side: str = "") -> Sequence:
    """Return the losses of a repeat, named after its cell's variant."""
    name = f"{side}{axes.variant(cell.resolved)}, repeat {repeat.number}"
    return Sequence(name, {step.step: step.loss for step in repeat.steps if step.loss is not None})


def key(cell: Cell) -> str:
    """Return the key that cells with equal losses share."""
    return key_of(cell.resolved)


def key_of(resolved: Mapping[str, Any]) -> str:
    """Return the key of a resolved cell."""
    return labels.canonical(resolved.get("model"), labels.batch(resolved), resolved.get("seed"))


def check(title: str, sequences: list[Sequence]) -> Check:
    """Compare all sequences step by step, up to the first difference."""
    compared = 0
    for step in sorted({step for s in sequences for step in s.losses}):
        present = [s for s in sequences if step in s.losses]
        if len(present) < 2:
            continue
        compared += 1
        reference = present[0]
        for other in present[1:]:
            a, b = reference.losses[step], other.losses[step]
            if a != b:
                text = f"at step {step} {reference.name} has {_format(a)}, {other.name} has {_format(b)}"
                return Check(title, "differ", text)
    if not compared:
        reason = "one repeat" if len(sequences) == 1 else f"{len(sequences)} repeats with no common step"
        return Check(title, "not compared", reason)
    text = f"{len(sequences)} repeats, {compared} steps, bit for bit"
    if any(value in ("nan", "inf", "-inf") for s in sequences for value in s.losses.values()):
        text += ", but some are not finite"
    return Check(title, "equal", text)


def check_cells(cells: Iterable[Cell], axes: Axes) -> list[Check]:
    """Return one check for each model, batch size and seed of a run."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.repeats:
            groups.setdefault(key(cell), []).append(cell)
    checks = []
    for group in groups.values():
        resolved = group[0].resolved
        title = axes.model(resolved) + (f" (seed {resolved['seed']})" if "seed" in axes.varied else "")
        sequences = [sequence(axes, cell, repeat) for cell in group for repeat in cell.repeats]
        checks.append(check(title, sequences))
    return checks


def _format(loss: str) -> str:
    return f"{float.fromhex(loss):.9g} ({loss})"
