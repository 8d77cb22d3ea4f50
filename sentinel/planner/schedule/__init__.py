# SPDX-License-Identifier: Apache-2.0
"""Schedules: which units are in fast memory when, and which migrate."""
