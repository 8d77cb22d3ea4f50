# SPDX-License-Identifier: Apache-2.0
"""Planners of other systems, for comparison. They need scipy, and are not in the guest."""
