# SPDX-License-Identifier: Apache-2.0
"""Algorithms of other systems, for comparison: planners, and page-based policies. Not in the guest."""
