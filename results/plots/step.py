# SPDX-License-Identifier: Apache-2.0
"""One step as its plan predicts it: layers, migrations and waits, and memory by tier below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from results.plans import Planned
from results.plots import svg
from results.plots.svg import Panel
from results.units import byte_unit, time_unit
from sentinel.planner.simulate import Simulation

_POINTS = 300  # along a step; more would not be seen
_Floats = npt.NDArray[np.float64]


def step(planned: Planned, policy_name: str, *, title: str, name: str) -> Panel | None:
    """Plot the predicted step of a plan, or return None if the run did not keep its profile."""
    simulation, profile = planned.simulation, planned.profile
    if simulation is None or profile is None:
        return None
    colour, moves = svg.policy_colour(policy_name), planned.plan.moves

    def paint(figure: Figure) -> None:
        scale, unit = time_unit(simulation.timeline.step_ns)
        if moves:
            lanes, memory = figure.subplots(2, 1, sharex=True, height_ratios=(1.1, 2))
            _draw_lanes(lanes, planned, simulation, profile.ops.layer, scale, colour)
            lanes.set_title(title)
        else:
            memory = figure.subplots()
            memory.set_title(title)
        _draw_memory(memory, simulation, planned.plan.budget, scale, colour)
        memory.set_xlabel(f"Predicted time ({unit})")
        memory.set_xlim(0, simulation.timeline.step_ns / scale)
        figure.legend(*memory.get_legend_handles_labels(), loc="outside lower left", ncols=2)

    return svg.panel(f"Planned step: {title}", paint, name=name, height=4.6 if moves else 3.3)


def _draw_lanes(
    axes: Any,
    planned: Planned,
    simulation: Simulation,
    layer: npt.NDArray[np.int64],
    scale: float,
    colour: str,
) -> None:
    timeline = simulation.timeline
    starts = np.flatnonzero(np.diff(layer, prepend=layer[0] - 1))
    edges = timeline.begin[np.append(starts, len(layer))] / scale
    layers = list(zip(edges[:-1].tolist(), np.diff(edges).tolist(), strict=True))
    shortest = timeline.step_ns / scale / (2 * _POINTS)
    axes.broken_barh(_merged(layers[::2], shortest), (2.1, 0.7), color=svg.SOFT)
    axes.broken_barh(_merged(layers[1::2], shortest), (2.1, 0.7), color=svg.FAINT)
    for to, y, alpha in ((0, 1.05, 0.9), (1, 0.0, 0.45)):
        spans = [
            (begin / scale, (end - begin) / scale)
            for move, (begin, end) in zip(planned.plan.moves, timeline.spans, strict=True)
            if move.to == to
        ]
        axes.broken_barh(_merged(spans, shortest), (y, 0.7), color=colour, alpha=alpha)
    for position, ns in timeline.exposed.items():
        end = timeline.begin[position] / scale
        axes.axvspan(end - ns / scale, end, color=svg.ALERT, alpha=0.5, lw=0)
    axes.set_yticks([2.45, 1.4, 0.35], ["layers", "promotions", "demotions"])
    axes.tick_params(axis="x", length=0)


def _draw_memory(axes: Any, simulation: Simulation, budget: int, scale: float, colour: str) -> None:
    begin = simulation.timeline.begin
    parts = {
        "reserved pool, node 0": (simulation.memory["reserved"], 0.95),
        "node 0": (simulation.memory["fast"], 0.6),
        "node 1": (simulation.memory["slow"], 0.22),
    }
    parts = {label: (values, alpha) for label, (values, alpha) in parts.items() if values.any()}
    size, unit = byte_unit(max(budget, int(np.sum([values for values, _ in parts.values()], axis=0).max())))
    first = _first_of_bins(begin)
    x = np.append(begin[:-1][first], begin[-1]) / scale
    below = np.zeros(len(x))
    for label, (values, alpha) in parts.items():
        height = np.maximum.reduceat(values, first) / size
        above = below + np.append(height, height[-1])
        axes.fill_between(x, below, above, step="post", color=colour, alpha=alpha, lw=0, label=label)
        below = above
    axes.axhline(budget / size, color=svg.INK, lw=1.2, ls="--", label="budget of node 0")
    axes.set_ylabel(f"Tensors ({unit})")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")


def _first_of_bins(begin: _Floats) -> npt.NDArray[np.int64]:
    """Return the first operation of each of at most `_POINTS` equal parts of the step that has any."""
    bins = np.floor(begin[:-1] / max(begin[-1], 1e-9) * _POINTS).astype(np.int64)
    return np.unique(bins, return_index=True)[1]


def _merged(spans: Sequence[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Join spans (begin, length) that are closer than `gap`, in order of their begin."""
    merged: list[tuple[float, float]] = []
    for begin, length in sorted(spans):
        if merged and begin - sum(merged[-1]) < gap:
            merged[-1] = (merged[-1][0], max(sum(merged[-1]), begin + length) - merged[-1][0])
        else:
            merged.append((begin, length))
    return merged
