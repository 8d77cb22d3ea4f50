# SPDX-License-Identifier: Apache-2.0
"""Whether runs that must train alike did: the same losses at the same steps, bit for bit.

Where tensors lie must not change what is computed. Repeats of the same model, batch and seed are held against
each other step by step, warm-up included; steps that only one of them has are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from results import labels
from results.labels import Axes
from results.runs import Cell, Repeat

Outcome = Literal["OK", "DIFFERENT", "NOTHING TO COMPARE"]


@dataclass(frozen=True)
class Sequence:
    """The losses of one repeat: step number -> float.hex(). `name` says whose."""

    name: str
    losses: Mapping[int, str]


@dataclass(frozen=True)
class Check:
    """The outcome for one model; `text` is a line for people."""

    title: str
    outcome: Outcome
    text: str


def sequence(axes: Axes, cell: Cell, repeat: Repeat, *, side: str = "") -> Sequence:
    """The losses of a repeat, under a name a reader will recognise."""
    name = f"{side}{axes.setting(cell.resolved)}, repeat {repeat.number}"
    return Sequence(name, {step.step: step.loss for step in repeat.steps})


def key(cell: Cell) -> str:
    """Cells with equal keys must have equal losses."""
    return labels.canonical(
        cell.resolved.get("model"), labels.batch(cell.resolved), cell.resolved.get("seed")
    )


def check(title: str, sequences: list[Sequence]) -> Check:
    """Hold all sequences against each other."""
    compared = 0
    for step in sorted({step for s in sequences for step in s.losses}):
        having = [s for s in sequences if step in s.losses]
        if len(having) < 2:
            continue
        compared += 1
        first = having[0]
        for other in having[1:]:
            a, b = first.losses[step], other.losses[step]
            if a != b:
                text = f"at step {step} {first.name} has {_shown(a)}, {other.name} has {_shown(b)}"
                return Check(title, "DIFFERENT", text)
    if not compared:
        why = "one repeat" if len(sequences) == 1 else f"{len(sequences)} repeats with no step in common"
        return Check(title, "NOTHING TO COMPARE", why)
    text = f"{len(sequences)} repeats, {compared} steps, equal bit for bit"
    if any(value in ("nan", "inf", "-inf") for s in sequences for value in s.losses.values()):
        text += ", but not all are finite numbers"
    return Check(title, "OK", text)


def check_cells(of: Iterable[Cell], axes: Axes) -> list[Check]:
    """One check per model, batch and seed of a run."""
    groups: dict[str, list[Cell]] = {}
    for cell in of:
        if cell.repeats:
            groups.setdefault(key(cell), []).append(cell)
    result = []
    for group in groups.values():
        first = group[0].resolved
        title = axes.model(first) + (f" (seed {first['seed']})" if "seed" in axes.varied else "")
        result.append(
            check(title, [sequence(axes, cell, repeat) for cell in group for repeat in cell.repeats])
        )
    return result


def _shown(loss: str) -> str:
    return f"{float.fromhex(loss):.9g} ({loss})"
