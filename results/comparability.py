# SPDX-License-Identifier: Apache-2.0
"""The reasons for which the step times of two cells cannot be compared.

Each rule is a function of both cells that returns a reason or None. `ACCEPTABLE` names those that people can
accept, because the difference is what they want to measure: `sentinel compare --across preset`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from results import labels, losses
from results.sides import SideCell

_Rule = Callable[[SideCell, SideCell], str | None]


def reasons(a: SideCell, b: SideCell, check: losses.Check, across: Collection[str] = ()) -> list[str]:
    """Return the reasons against a verdict, except those that `across` names."""
    missing = _samples(a, b)
    if missing:
        return [missing]
    found = [rule(a, b) for name, rule in _RULES.items() if name not in across]
    if check.outcome == "differ" and "losses" not in across:
        found.append(f"the losses differ ({check.text})")
    return [reason for reason in found if reason is not None]


def _samples(a: SideCell, b: SideCell) -> str | None:
    missing = [name for name, cell in (("A", a), ("B", b)) if not cell.times(cell.clock)]
    return f"no measured steps in {' and '.join(missing)}" if missing else None


def _clock(a: SideCell, b: SideCell) -> str | None:
    return None if a.clock == b.clock else f"the clocks differ (A {a.clock}, B {b.clock})"


def _nodes(a: SideCell, b: SideCell) -> str | None:
    alike = [
        name
        for name, cell in (("A", a), ("B", b))
        if any(origin.throttle == "none" or origin.nodes_alike for origin in cell.origins())
    ]
    return f"both nodes are equally fast in {' and '.join(alike)}" if alike else None


def _accelerator(a: SideCell, b: SideCell) -> str | None:
    return _different("the accelerators differ", a, b, "accelerator")


def _host(a: SideCell, b: SideCell) -> str | None:
    """Compare the hosts for times by the guest clock, which follows the host's speed."""
    if "guest" not in (a.clock, b.clock):
        return None
    return _different("the hosts differ", a, b, "cpu") or _different("the hosts differ in CPUs", a, b, "cpus")


def _preset(a: SideCell, b: SideCell) -> str | None:
    before, after = (cell.resolved.get("preset") for cell in (a, b))
    if before == after or not (labels.is_resolved(a.resolved) and labels.is_resolved(b.resolved)):
        return None
    flat_a, flat_b = labels.flatten(before), labels.flatten(after)
    keys = [key for key in {**flat_a, **flat_b} if flat_a.get(key) != flat_b.get(key)]
    return f"the figures of the presets differ ({', '.join(filter(None, keys)) or 'one side has none'})"


def _calibration(a: SideCell, b: SideCell) -> str | None:
    bad = []
    for name, cell in (("A", a), ("B", b)):
        states = {origin.calibration for origin in cell.origins()} & {"missing", "failed"}
        if states:
            bad.append(f"{' and '.join(sorted(states))} in {name}")
    return f"the calibration is {', '.join(bad)}" if bad else None


def _builds(a: SideCell, b: SideCell) -> str | None:
    """Refuse a side whose repeats used several builds: their spread is not that of one thing."""
    mixed = []
    for name, cell in (("A", a), ("B", b)):
        for field in ("kernel", "image", "runtime", "qemu"):
            if len({getattr(origin, field) for origin in cell.origins()}) > 1:
                mixed.append(f"{_BUILDS[field]} in {name}")
    return f"repeats of several builds: {', '.join(mixed)}" if mixed else None


def _pacing(a: SideCell, b: SideCell) -> str | None:
    bad = [
        name
        for name, cell in (("A", a), ("B", b))
        if not all(origin.paced_reliably for origin in cell.origins())
    ]
    return f"the pacing was unreliable in {' and '.join(bad)}" if bad else None


def _mode(a: SideCell, b: SideCell) -> str | None:
    """Refuse to compare a replayed step with an emulated one."""
    modes = [cell.resolved.get("mode", "emulate") for cell in (a, b)]
    return None if modes[0] == modes[1] else f"A is {_MODES.get(modes[0])} and B {_MODES.get(modes[1])}"


_RULES: dict[str, _Rule] = {
    "mode": _mode,
    "clock": _clock,
    "nodes": _nodes,
    "accelerator": _accelerator,
    "host": _host,
    "preset": _preset,
    "calibration": _calibration,
    "builds": _builds,
    "pacing": _pacing,
}
_MODES = {"emulate": "emulated", "replay": "replayed"}
ACCEPTABLE = ("mode", "accelerator", "host", "preset", "calibration", "builds", "losses")
_BUILDS = {"kernel": "kernel", "image": "image", "runtime": "runtime", "qemu": "QEMU"}


def _different(text: str, a: SideCell, b: SideCell, field: str) -> str | None:
    """Return the text with both sides' values, unless all repeats have the same."""
    sides = [sorted({_word(getattr(origin, field)) for origin in cell.origins()}) for cell in (a, b)]
    if sides[0] == sides[1] and len(sides[0]) == 1:
        return None
    names = [", ".join(side) for side in sides]
    return f"{text} (A {names[0]}; B {names[1]})"


def _word(value: Any) -> str:
    return "unknown" if value is None else str(value)
