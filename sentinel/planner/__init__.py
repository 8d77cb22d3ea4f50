# SPDX-License-Identifier: Apache-2.0
"""The planner: turns the profile of one training step into a plan of placements and migrations.

Pure functions over numpy arrays. The package needs python3.9 and numpy only, because it also runs in the
guest: `python3 -m sentinel.planner`. docs/sentinel.md defines the formats and the
rules of a plan.

Node 0 is the fast node. Sizes are bytes, times nanoseconds, bandwidths GB/s (bytes per nanosecond).

Data flows one way: profile, `problem`, `candidates`, `placement`, `timing.timeline`, `assemble`. `search`
joins them.
"""
