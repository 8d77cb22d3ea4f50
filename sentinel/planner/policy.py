# SPDX-License-Identifier: Apache-2.0
"""Names of the planner's policies and mechanisms."""

from __future__ import annotations

from typing import Literal, get_args

Policy = Literal["sentinel", "sentinel-opt"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
DEFAULT: Policy = "sentinel-opt"
HELP = "sentinel: the paper's algorithm; sentinel-opt: the shortest predicted step of many candidates"

Mechanism = Literal["move_pages", "frames"]
MECHANISMS: tuple[Mechanism, ...] = get_args(Mechanism)
MOVE_PAGES: Mechanism = "move_pages"
FRAMES: Mechanism = "frames"
