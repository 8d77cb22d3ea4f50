# SPDX-License-Identifier: Apache-2.0
"""Plots of a profile and a plan, as PNG and SVG. They need no display."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from results.plots import colours
from results.units import time_unit
from sentinel.planner.explain import characterise, live_bytes_by_class
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory.classify import CLASSES, classify
from sentinel.planner.simulate import simulate

_COLOURS = {name: colour.light for name, colour in colours.LIFETIMES.items()}
_FAST, _SLOW = (colour.light for colour in colours.NODES)
_RESERVED, _ALERT = colours.RESERVED.light, colours.ALERT.light
_NEUTRAL, _PALE = colours.NEUTRAL.light, colours.PALE.light
_MIB = 1 << 20
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "sentinel",  # equal plans give equal files
}


def write(profile: Profile | None, plan: Plan | None, folder: Path) -> list[str]:
    """Write all plots that a profile, a plan, or both allow. Returns their names."""
    plots: dict[str, Callable[[], Figure]] = {}
    if profile is not None:
        plots["lifetimes"] = lambda: lifetimes(profile)
        plots["accesses"] = lambda: accesses(profile)
        plots["memory"] = lambda: memory(profile, plan)
        if plan is not None:
            plots["migrations"] = lambda: migrations(profile, plan)
    if plan is not None and plan.predicted.get("candidates"):
        plots["candidates"] = lambda: candidates(plan)
    with rc_context(_STYLE):
        for name, draw in plots.items():
            figure = draw()
            FigureCanvasAgg(figure)
            figure.savefig(folder / f"{name}.png", dpi=150)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return list(plots)


def lifetimes(profile: Profile) -> Figure:
    """Lifetimes of tensors in order of birth, and their sizes by length of life."""
    t, classes = profile.tensors, classify(profile)
    figure = Figure(figsize=(10, 5), layout="constrained")
    lives, sizes = figure.subplots(1, 2)
    row = np.empty(len(t), dtype=np.int64)
    row[np.lexsort((t.death, t.birth))] = np.arange(len(t))
    operations = t.death - np.maximum(t.birth, 0)
    rasterized = len(t) > 2000
    for number, name in enumerate(CLASSES):
        tensors = np.flatnonzero(classes == number)
        if not len(tensors):
            continue
        lines = [[(max(0, t.birth[i]), row[i]), (t.death[i], row[i])] for i in tensors]
        label = f"{name} ({len(tensors)})"
        lives.add_collection(
            LineCollection(lines, colors=_COLOURS[name], linewidths=1.2, label=label, rasterized=rasterized)
        )
        sizes.scatter(
            operations[tensors],
            np.maximum(1, t.size[tensors]),
            s=9,
            alpha=0.5,
            color=_COLOURS[name],
            rasterized=rasterized,
        )
    lives.set(xlim=(0, len(profile.ops)), ylim=(len(t), -1), xlabel="Operation", ylabel="Tensor, by birth")
    lives.set_title("Lifetimes")
    if len(t):
        lives.legend(loc="lower left")
    sizes.set(xscale="log", yscale="log", xlabel="Lifetime (operations)", ylabel="Size (bytes)")
    sizes.axhline(profile.page_bytes, color=_PALE, lw=0.8, ls="--")
    sizes.set_title("Sizes (dashed: one page)")
    return figure


def accesses(profile: Profile) -> Figure:
    """Shares of tensors, bytes and accesses by lifetime and size; accesses against bytes, hottest first."""
    t = profile.tensors
    figure = Figure(figsize=(10, 4), layout="constrained")
    bars, curve = figure.subplots(1, 2)
    rows = characterise(profile)["classes"]
    total_bytes = max(1, sum(row["bytes"] for row in rows))
    for y, row in enumerate(rows):
        shares = (row["of_tensors"], row["bytes"] / total_bytes, row["of_accesses"])
        for i, (share, alpha) in enumerate(zip(shares, (1.0, 0.65, 0.35), strict=True)):
            bars.barh(y + 0.27 * (i - 1), share, 0.25, color=_COLOURS[row["lifetime"]], alpha=alpha)
    bars.set_yticks(range(len(rows)), [f"{row['lifetime']}, {row['size']}" for row in rows])
    bars.invert_yaxis()
    bars.set_xlabel("Share of the step")
    bars.set_title("Tensors, bytes, accesses (dark to light)")
    order = np.argsort(-t.accesses / np.maximum(1, t.touched), kind="stable")
    size, count = np.cumsum(t.resident_bytes[order]), np.cumsum(t.accesses[order])
    if len(t) and size[-1] and count[-1]:
        curve.plot(size / size[-1], count / count[-1], color=_NEUTRAL)
    curve.plot([0, 1], [0, 1], color=_PALE, lw=0.8, ls="--")
    curve.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="Share of bytes, hottest first", ylabel="Share of accesses")
    curve.set_title("Distribution of accesses")
    return figure


def memory(profile: Profile, plan: Plan | None) -> Figure:
    """Live bytes over the step, by lifetime; with a plan by node."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    if plan is None:
        parts = live_bytes_by_class(profile)
        part_colours = [_COLOURS[name] for name in parts]
    else:
        by_place = simulate(profile, plan).memory
        labels = {"reserved": "reserved pool, node 0", "fast": "node 0", "slow": "node 1"}
        parts = {label: by_place[place] for place, label in labels.items()}
        part_colours = [_RESERVED, _FAST, _SLOW]
        axes.axhline(plan.budget / _MIB, color=_ALERT, lw=1, ls="--", label="budget")
    x = np.arange(len(profile.ops) + 1)
    stacked = [np.append(part, part[-1]) / _MIB for part in parts.values()]
    axes.stackplot(x, stacked, labels=list(parts), colors=part_colours, alpha=0.8, step="post")
    axes.set(xlim=(0, len(profile.ops)), xlabel="Operation", ylabel="Live tensors (MiB)")
    axes.set_title("Memory over the step")
    axes.legend(loc="upper left", ncols=4)
    return figure


def migrations(profile: Profile, plan: Plan) -> Figure:
    """Layers, migrations and waits on one time axis, with fast memory below."""
    simulation = simulate(profile, plan)
    timeline, begin = simulation.timeline, simulation.timeline.begin
    scale, unit = time_unit(timeline.step_ns)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    lanes, fast_memory = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1.6))
    layer_starts = np.flatnonzero(np.diff(profile.ops.layer, prepend=-1))
    edges = begin[np.append(layer_starts, len(profile.ops))] / scale
    layers = list(zip(edges[:-1], np.diff(edges), strict=True))
    lanes.broken_barh(layers[::2], (1.6, 0.8), color=_NEUTRAL)
    lanes.broken_barh(layers[1::2], (1.6, 0.8), color=_PALE)
    for to, y, colour in ((0, 0.8, _FAST), (1, 0.0, _SLOW)):
        spans = [
            (start / scale, (end - start) / scale)
            for move, (start, end) in zip(plan.moves, timeline.spans, strict=True)
            if move.to == to
        ]
        lanes.broken_barh(spans, (y + 0.05, 0.6), color=colour)
    for p, ns in timeline.exposed.items():
        lanes.axvspan((begin[p] - ns) / scale, begin[p] / scale, color=_ALERT, alpha=0.5, lw=0)
    for p in plan.intervals:
        lanes.axvline(begin[p] / scale, color=_PALE, lw=0.5, ls=":")
    lanes.set_yticks([2.0, 1.15, 0.35], ["computation", "promotions", "demotions"])
    lanes.set_title("Migrations (dark and light: layers; dotted: intervals; red: exposed time)")
    fast_bytes = np.append(simulation.memory["fast"] + simulation.memory["reserved"], 0)
    fast_memory.fill_between(begin / scale, fast_bytes / _MIB, step="post", color=_FAST, alpha=0.6)
    fast_memory.axhline(plan.budget / _MIB, color=_ALERT, lw=1, ls="--")
    fast_memory.set(
        xlim=(0, begin[-1] / scale), xlabel=f"Predicted time ({unit})", ylabel="Fast memory (MiB)"
    )
    return figure


def candidates(plan: Plan) -> Figure:
    """The predicted step of every candidate, by interval length."""
    rows, predicted = plan.predicted["candidates"], plan.predicted
    scale, unit = time_unit(predicted["step_ns"])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    paper = [row for row in rows if row["rule"] == "paper"]
    variants = [row for row in rows if row["rule"] not in ("paper", "static")]
    for label, group, marker, policy in (
        ("paper's rule", paper, "o-", "sentinel"),
        ("variants", variants, "x", "sentinel-opt"),
    ):
        layers, times = [row["interval_layers"] for row in group], [row["step_ns"] / scale for row in group]
        axes.plot(layers, times, marker, color=colours.POLICIES[policy].light, label=label)
    static = next(row for row in rows if row["rule"] == "static")
    for label, ns, style in (
        ("without migration", static["step_ns"], "--"),
        ("all fast", predicted["fast_ns"], ":"),
    ):
        axes.axhline(ns / scale, color=_NEUTRAL, lw=1, ls=style, label=label)
    axes.plot(
        [plan.interval_layers],
        [predicted["step_ns"] / scale],
        "o",
        ms=11,
        mfc="none",
        mec=_ALERT,
        label="plan",
    )
    axes.set(xscale="log", xlabel="Interval length (layers)", ylabel=f"Predicted step ({unit})")
    axes.set_title("Candidates")
    axes.legend()
    return figure
