# SPDX-License-Identifier: Apache-2.0
"""Profiles, plans and figures: their values in memory and as JSON files."""
