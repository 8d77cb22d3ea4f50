# SPDX-License-Identifier: Apache-2.0
"""The colours of all plots: a colour has one meaning in every plot and on every page.

A node has the colour of the policy that keeps all tensors on it. Every colour appears with its name, so that
nothing depends on colour alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    """A colour for light and for dark pages."""

    light: str
    dark: str


POLICIES: dict[str, Colour] = {
    "fast-only": Colour("#0067a5", "#5db2f0"),
    "slow-only": Colour("#c24e00", "#ff9857"),
    "first-touch": Colour("#8a6a00", "#e3c04f"),
    "interleave": Colour("#b83f78", "#f08ab8"),
    "sentinel-opt": Colour("#00785a", "#4fcfa6"),
    "sentinel": Colour("#7248a8", "#c3a1f2"),
    "autotm": Colour("#4d6b00", "#b4d455"),
    "capuchin": Colour("#3d5a80", "#a3c1e6"),
    "ial": Colour("#6a3d3d", "#d8a0a0"),
    "memtis": Colour("#005f6b", "#5fc4d0"),
    "hemem": Colour("#4a4ac4", "#a9a9ff"),
    "tpp": Colour("#a0522d", "#e0a882"),
    "numa-balancing": Colour("#3f7f3f", "#90d090"),
    "memory-mode": Colour("#8e24aa", "#e08cf5"),
    "weighted-interleave": Colour("#94305f", "#ffb3d1"),
}
OTHER = Colour("#5c6670", "#a3adb7")  # other policies

NODES = (POLICIES["fast-only"], POLICIES["slow-only"])  # fast tier, slow tier
RESERVED = Colour("#003a5e", "#2f6f9f")  # the reserved pool
LIFETIMES: dict[str, Colour] = {
    "short": Colour("#2a9db0", "#7fd6e4"),
    "long": Colour("#332288", "#9d92e6"),
    "variable": Colour("#7a4a2b", "#c99873"),
    "outside": Colour("#999999", "#7d7d7d"),
}
ALERT = Colour("#b3261e", "#ff9d94")  # limits, exposed time
NEUTRAL = Colour("#444444", "#bbbbbb")  # marks without a meaning of their own
PALE = Colour("#aaaaaa", "#666666")
PAGE: dict[str, Colour] = {  # by CSS name: ground, text, lines, and marks with their ground
    "paper": Colour("#ffffff", "#15181c"),
    "card": Colour("#f6f7f9", "#1e2328"),
    "ink": Colour("#1c2127", "#e6e9ec"),
    "soft": Colour("#56606b", "#a3adb7"),
    "faint": Colour("#d5dae0", "#3a424a"),
    "good": Colour("#0b6b3a", "#7fdba6"),
    "good-back": Colour("#dff3e7", "#15382a"),
    "bad": Colour("#a3201a", "#ff9d94"),
    "bad-back": Colour("#fbe4e2", "#472220"),
    "note": Colour("#6b4a00", "#ffd680"),
    "note-back": Colour("#fff3d6", "#3a2f14"),
    "alert": ALERT,
}


def css_name(policy: str) -> str:
    """Return the name of the CSS variable with a policy's colour."""
    return policy if policy in POLICIES else "other"


def css_policies() -> dict[str, Colour]:
    """Return the colours of policies by CSS name."""
    return {**POLICIES, "other": OTHER}


def css_colours() -> dict[str, Colour]:
    """Return all colours that a page defines, by CSS name."""
    return {**PAGE, **css_policies()}
