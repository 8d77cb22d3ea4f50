# SPDX-License-Identifier: Apache-2.0
"""The summary of a managed training. python2.7 and 3."""

from __future__ import absolute_import, division, print_function

import collections

from guest.bindings import kinds


class Observer(object):
    """Keeps what a summary needs of a training with this manager, planning, and watch of its sessions."""

    def __init__(self, manager, planning, watch):
        self._manager, self._planning, self._watch = manager, planning, watch
        self._fast_peak = 0

    def add(self, stats):
        """Take the runtime's statistics after a step into account."""
        self._fast_peak = max(self._fast_peak, fast_bytes(stats))

    def summary(self, stats):
        """Return the summary, given the last statistics (None without the runtime)."""
        if stats:
            self.add(stats)
        return summarise(self._manager, self._planning, stats, self._fast_peak, self._watch)


def fast_bytes(stats):
    """Return the bytes of tensors on node 0."""
    return sum(pool["resident"][0] for pool in stats["pools"].values())


def summarise(manager, planning, stats, fast_peak, watch):
    """Return the summary as a dictionary. Times are nanoseconds, sizes bytes.

    `fast_peak` is the most bytes of tensors on node 0 after a step.
    """
    total = stats["total"] if stats else collections.Counter()
    counts = stats or collections.Counter()
    return {
        "steps": manager.steps,
        "runs": watch.seen,
        "budget": planning.budget,
        "peak": planning.peak,
        "policy": planning.policy,
        "fast_peak": fast_peak,
        "planner_ns": planning.planner_ns,
        "kinds": [_kind(kind) for kind in manager.kinds.all],
        "moved": total["promoted"] + total["demoted"],
        "exposed_ns": total["exposed_ns"],
        "late": total["late"],
        "unplanned": {k: stats["step"][k] for k in ("unplanned", "busy", "fallback_bytes")} if stats else {},
        "planned_steps": counts["planned_steps"],
        "other_steps": counts["other_steps"],
        "served_steps": counts["served_steps"],
        "forks": counts["forks"],
        "over_budget": counts["over_budget"],
    }


def _kind(kind):
    state, reason = kind.state, kind.reason
    if state == kinds.PROFILING or not kind.runs:
        reason = "its runs are within or beside other steps"
    elif state == kinds.WAITING and not reason:
        reason = "it ran %d times only" % kind.runs
    elif state == kinds.PLANNING:
        reason = "the training ended before its plan was ready"
    return {
        "name": kind.name,
        "operations": len(kind.signature.operations),
        "runs": kind.runs,
        "state": state,
        "reason": reason,
        "profiles": kind.profiles,
        "median_ns": {phase: _median(ns) for phase, ns in sorted(kind.times.items())},
        "phases": {phase: number for phase, (number, _) in sorted(kind.totals.items())},
        "total_ns": sum(ns for _, ns in kind.totals.values()),
        "cost_ns": _cost(kind),
    }


def _cost(kind):
    """Return the ns that profiling, planning and trials took: the time beyond that of planned steps alone."""
    if kind.state != kinds.PLANNED or "planned" not in kind.times:
        return None
    number = sum(number for number, _ in kind.totals.values())
    return sum(ns for _, ns in kind.totals.values()) - number * _median(kind.times["planned"])


def _median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else None


def text(summary):
    """Return the lines of the summary for people."""
    if not summary["steps"]:
        lines = ["no training step was seen in %d session runs" % summary["runs"]]
        hint = "a step updates trainable variables; name an operation of yours with --step-op NAME"
        return lines + [hint]
    lines = ["%d training steps with policy %s" % (summary["steps"], summary["policy"])]
    if summary["budget"] is not None:
        lines.append(
            "budget %s of a peak of %s; most on node 0 after a step: %s"
            % (_mib(summary["budget"]), _mib(summary["peak"]), _mib(summary["fast_peak"]))
        )
    for kind in summary["kinds"]:
        lines.append(_kind_line(kind))
    lines.append(
        "moved %s, exposed %s, late %s; planner %.1f s"
        % (
            _mib(summary["moved"]),
            _time(summary["exposed_ns"]),
            _mib(summary["late"]),
            summary["planner_ns"] / 1e9,
        )
    )
    costs = [kind for kind in summary["kinds"] if kind["cost_ns"] is not None and kind["total_ns"]]
    if costs:
        share = sum(kind["cost_ns"] for kind in costs) / float(sum(kind["total_ns"] for kind in costs))
        lines.append("%.1f %% of the time went into profiling, planning and trials" % (100 * max(share, 0)))
    lines.append(
        "%d steps matched their plan, %d did not, %d only served"
        % (summary["planned_steps"], summary["other_steps"], summary["served_steps"])
    )
    if summary["unplanned"].get("unplanned") or summary["unplanned"].get("busy"):
        lost = summary["unplanned"]
        lines.append(
            "last step: %d tensors not in the plan, %d with their place taken"
            % (lost["unplanned"], lost["busy"])
        )
    if summary["over_budget"]:
        lines.append("a fork took up to %s more than the budget" % _mib(summary["over_budget"]))
    return lines


def _kind_line(kind):
    times = kind["median_ns"]
    words = "step %s (%d operations), %d runs: " % (kind["name"], kind["operations"], kind["runs"])
    if "planned" in times and "before" in times:
        before, planned = times["before"], times["planned"]
        return words + "%s before, %s planned (%.2f times as fast)" % (
            _time(before),
            _time(planned),
            float(before) / planned if planned else float("inf"),
        )
    if "planned" in times:
        return words + "%s planned" % _time(times["planned"])
    if "other" in times:
        return words + "%s with the plan of a similar step" % _time(times["other"])
    return words + "no plan: %s" % (kind["reason"] or kind["state"])


def _mib(size):
    return "unknown" if size is None else "%.1f MiB" % (size / float(1 << 20))


def _time(ns):
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= scale:
            return "%.3g %s" % (ns / scale, unit)
    return "%d ns" % ns
