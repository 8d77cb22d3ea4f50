# SPDX-License-Identifier: Apache-2.0
"""Names of the planner's policies."""

from __future__ import annotations

from typing import Literal, get_args

Policy = Literal["sentinel", "sentinel-opt"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
DEFAULT: Policy = "sentinel-opt"
HELP = "sentinel: the paper's algorithm; sentinel-opt: the shortest predicted step of many candidates"
