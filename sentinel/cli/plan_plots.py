# SPDX-License-Identifier: Apache-2.0
"""Plots of a profile and a plan, each as PNG and SVG. Drawn without a display."""

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
from sentinel.planner import explain
from sentinel.planner.formats.plan import Plan
from sentinel.planner.formats.profile import Profile
from sentinel.planner.memory.classify import CLASSES, classes

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
    """Draw what can be drawn of a profile, of a plan, or of both; returns the plots' names."""
    drawn: dict[str, Callable[[], Figure]] = {}
    if profile is not None:
        drawn["lifetimes"] = lambda: lifetimes(profile)
        drawn["accesses"] = lambda: accesses(profile)
        drawn["memory"] = lambda: memory(profile, plan)
        if plan is not None:
            drawn["migrations"] = lambda: migrations(profile, plan)
    if plan is not None and plan.predicted.get("candidates"):
        drawn["candidates"] = lambda: candidates(plan)
    with rc_context(_STYLE):
        for name, draw in drawn.items():
            figure = draw()
            FigureCanvasAgg(figure)
            figure.savefig(folder / f"{name}.png", dpi=150)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return list(drawn)


def lifetimes(profile: Profile) -> Figure:
    """From birth to death, tensors in order of birth; and how long they live against how large they are."""
    t, found = profile.tensors, classes(profile)
    figure = Figure(figsize=(10, 5), layout="constrained")
    lines, points = figure.subplots(1, 2)
    place = np.empty(len(t), dtype=np.int64)
    place[np.lexsort((t.death, t.birth))] = np.arange(len(t))
    life = t.death - np.maximum(t.birth, 0)
    for number, name in enumerate(CLASSES):
        chosen = np.flatnonzero(found == number)
        if not len(chosen):
            continue
        ends = [[(max(0, t.birth[i]), place[i]), (t.death[i], place[i])] for i in chosen]
        many = len(t) > 2000
        lines.add_collection(
            LineCollection(
                ends, colors=_COLOURS[name], linewidths=1.2, label=f"{name} ({len(ends)})", rasterized=many
            )
        )
        points.scatter(
            life[chosen], np.maximum(1, t.size[chosen]), s=9, alpha=0.5, color=_COLOURS[name], rasterized=many
        )
    lines.set(xlim=(0, len(profile.ops)), ylim=(len(t), -1), xlabel="operation", ylabel="tensor, by birth")
    lines.set_title("lifetimes")
    if len(t):
        lines.legend(loc="lower left")
    points.set(xscale="log", yscale="log", xlabel="operations it lives", ylabel="bytes")
    points.axhline(profile.page, color=_PALE, lw=0.8, ls="--")
    points.set_title("sizes; below the line less than a page")
    return figure


def accesses(profile: Profile) -> Figure:
    """Shares of tensors, bytes and accesses by lifetime and size; accesses against bytes, hottest first."""
    t = profile.tensors
    figure = Figure(figsize=(10, 4), layout="constrained")
    bars, curve = figure.subplots(1, 2)
    rows = explain.characterise(profile)["classes"]
    total = max(1, sum(row["bytes"] for row in rows))
    for y, row in enumerate(rows):
        values = (row["of_tensors"], row["bytes"] / total, row["of_accesses"])
        for n, (value, alpha) in enumerate(zip(values, (1.0, 0.65, 0.35), strict=True)):
            bars.barh(y + 0.27 * (n - 1), value, 0.25, color=_COLOURS[row["lifetime"]], alpha=alpha)
    bars.set_yticks(range(len(rows)), [f"{row['lifetime']}, {row['size']}" for row in rows])
    bars.invert_yaxis()
    bars.set_xlabel("share of the step's")
    bars.set_title("tensors, bytes, accesses (from dark to light)")
    order = np.argsort(-t.accesses / np.maximum(1, t.touched), kind="stable")
    size, count = np.cumsum(t.bytes[order]), np.cumsum(t.accesses[order])
    if len(t) and size[-1] and count[-1]:
        curve.plot(size / size[-1], count / count[-1], color=_NEUTRAL)
    curve.plot([0, 1], [0, 1], color=_PALE, lw=0.8, ls="--")
    curve.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="share of bytes, hottest first", ylabel="share of accesses")
    curve.set_title("hot and cold")
    return figure


def memory(profile: Profile, plan: Plan | None) -> Figure:
    """Bytes over the step: by lifetime, or by where the plan has them."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    if plan is None:
        parts = explain.memory_of_profile(profile)
        colours = [_COLOURS[name] for name in parts]
    else:
        parts = explain.course(profile, plan).memory
        parts = {"reserved, node 0": parts["reserved"], "node 0": parts["fast"], "node 1": parts["slow"]}
        colours = [_RESERVED, _FAST, _SLOW]
        axes.axhline(plan.budget / _MIB, color=_ALERT, lw=1, ls="--", label="budget")
    x = np.arange(len(profile.ops) + 1)
    stacked = [np.append(part, part[-1]) / _MIB for part in parts.values()]
    axes.stackplot(x, stacked, labels=list(parts), colors=colours, alpha=0.8, step="post")
    axes.set(xlim=(0, len(profile.ops)), xlabel="operation", ylabel="MiB")
    axes.set_title("memory over the step")
    axes.legend(loc="upper left", ncols=4)
    return figure


def migrations(profile: Profile, plan: Plan) -> Figure:
    """Layers computing, helpers migrating and waits against each other, and fast memory below."""
    course = explain.course(profile, plan)
    begin = course.timeline.begin
    size, unit = time_unit(course.timeline.step_ns)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    rows, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1.6))
    starts = np.flatnonzero(np.diff(profile.ops.layer, prepend=-1))
    edges = begin[np.append(starts, len(profile.ops))] / size
    spans = list(zip(edges[:-1], np.diff(edges), strict=True))
    rows.broken_barh(spans[::2], (1.6, 0.8), color=_NEUTRAL)
    rows.broken_barh(spans[1::2], (1.6, 0.8), color=_PALE)
    for to, y, colour in ((0, 0.8, _FAST), (1, 0.0, _SLOW)):
        moved = [
            (a / size, (b - a) / size)
            for move, (a, b) in zip(plan.moves, course.timeline.spans, strict=True)
            if move.to == to
        ]
        rows.broken_barh(moved, (y + 0.05, 0.6), color=colour)
    for p, ns in course.timeline.exposed.items():
        rows.axvspan((begin[p] - ns) / size, begin[p] / size, color=_ALERT, alpha=0.5, lw=0)
    for p in plan.intervals:
        rows.axvline(begin[p] / size, color=_PALE, lw=0.5, ls=":")
    rows.set_yticks([2.0, 1.15, 0.35], ["computing", "promotions", "demotions"])
    rows.set_title("layers in turn dark and light; dotted: intervals; red: waits")
    fast = np.append(course.memory["fast"] + course.memory["reserved"], 0) / _MIB
    below.fill_between(begin / size, fast, step="post", color=_FAST, alpha=0.6)
    below.axhline(plan.budget / _MIB, color=_ALERT, lw=1, ls="--")
    below.set(xlim=(0, begin[-1] / size), xlabel=f"predicted time ({unit})", ylabel="fast memory, MiB")
    return figure


def candidates(plan: Plan) -> Figure:
    """The predicted step of every candidate, by layers of an interval."""
    rows, predicted = plan.predicted["candidates"], plan.predicted
    size, unit = time_unit(predicted["step_ns"])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    published = [row for row in rows if row["rule"] == "as published"]
    others = [row for row in rows if row["rule"] not in ("as published", "static")]
    for label, some, marker, colour in (
        ("as published", published, "o-", colours.POLICIES["sentinel"].light),
        ("variants", others, "x", colours.POLICIES["sentinel-opt"].light),
    ):
        layers, times = [row["interval_layers"] for row in some], [row["step_ns"] / size for row in some]
        axes.plot(layers, times, marker, color=colour, label=label)
    still = next(row for row in rows if row["rule"] == "static")
    for label, ns, style in (
        ("without migration", still["step_ns"], "--"),
        ("all fast", predicted["fast_ns"], ":"),
    ):
        axes.axhline(ns / size, color=_NEUTRAL, lw=1, ls=style, label=label)
    axes.plot(
        [plan.interval_layers],
        [predicted["step_ns"] / size],
        "o",
        ms=11,
        mfc="none",
        mec=_ALERT,
        label="chosen",
    )
    axes.set(xscale="log", xlabel="layers of an interval", ylabel=f"predicted step ({unit})")
    axes.set_title("why this interval")
    axes.legend()
    return figure
