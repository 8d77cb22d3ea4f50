# SPDX-License-Identifier: Apache-2.0
"""The one place for the colours of charts: a colour means the same in every chart and on every page.

A node has the colour of the placement that keeps all tensors on it. No colour has another second meaning, and
none carries a meaning alone: its name stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    """A colour on a light and on a dark page."""

    light: str
    dark: str


PLACEMENTS: dict[str, Colour] = {
    "fast-only": Colour("#0067a5", "#5db2f0"),
    "slow-only": Colour("#c24e00", "#ff9857"),
    "first-touch": Colour("#8a6a00", "#e3c04f"),
    "interleave": Colour("#b83f78", "#f08ab8"),
    "sentinel-opt": Colour("#00785a", "#4fcfa6"),
    "sentinel": Colour("#7248a8", "#c3a1f2"),
}
OTHER = Colour("#5c6670", "#a3adb7")  # a placement that is not known here

NODES = (PLACEMENTS["fast-only"], PLACEMENTS["slow-only"])  # the fast tier, the slow tier
RESERVED = Colour("#003a5e", "#2f6f9f")  # the part of node 0 that a plan reserves
LIFETIMES: dict[str, Colour] = {
    "short": Colour("#2a9db0", "#7fd6e4"),
    "long": Colour("#332288", "#9d92e6"),
    "variable": Colour("#7a4a2b", "#c99873"),
    "outside": Colour("#999999", "#7d7d7d"),
}
ALERT = Colour("#b3261e", "#ff9d94")  # limits and waits
NEUTRAL = Colour("#444444", "#bbbbbb")  # what has no meaning but its place
PALE = Colour("#aaaaaa", "#666666")


def slot(placement: str) -> str:
    """The name under which a page defines the colour of a placement."""
    return placement if placement in PLACEMENTS else "other"


def slots() -> dict[str, Colour]:
    """Every slot with its colour."""
    return {**PLACEMENTS, "other": OTHER}
