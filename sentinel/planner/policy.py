# SPDX-License-Identifier: Apache-2.0
"""Names of the planner's policies and mechanisms, and the judge of plans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Literal, get_args

if TYPE_CHECKING:
    from .formats.plan import Plan

Policy = Literal["sentinel", "sentinel-opt"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
DEFAULT: Policy = "sentinel-opt"
HELP = "sentinel: the paper's algorithm; sentinel-opt: the shortest predicted step of many candidates"

Mechanism = Literal["move_pages", "frames"]
MECHANISMS: tuple[Mechanism, ...] = get_args(Mechanism)
MOVE_PAGES: Mechanism = "move_pages"
FRAMES: Mechanism = "frames"

Judge = Callable[["Plan"], float]  # returns the ns of a step with the plan
