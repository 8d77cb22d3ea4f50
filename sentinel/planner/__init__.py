# SPDX-License-Identifier: Apache-2.0
"""The planner: from the profile of one training step to a plan of where tensors are and when they move.

Pure functions over numpy arrays; python3.9 and newer, nothing but numpy, so that it runs in the guest too,
where the package is copied to the top level: `python3 -m planner`. Formats and rules are in docs/sentinel.md.

Node 0 is the fast one. Sizes are bytes, times nanoseconds, bandwidths GB/s (bytes per nanosecond).
"""
