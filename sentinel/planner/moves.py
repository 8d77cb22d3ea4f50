# SPDX-License-Identifier: Apache-2.0
"""Schedules: where units are born, and the migrations of one step."""

from __future__ import annotations

from typing import NamedTuple


class UnitMove(NamedTuple):
    """A migration of `unit` to node `to`: it may start at position `at` and must end before `before`."""

    unit: int
    at: int
    to: int
    before: int


class Schedule(NamedTuple):
    """Where units are born, and the moves in order of `at`.

    `born_fast` are the units in fast memory at their birth, or at the start of the step for variables.
    `waits` are the positions at which the step waits for promotions.
    """

    born_fast: frozenset[int]
    moves: list[UnitMove]
    waits: list[int]


NO_MIGRATION = Schedule(frozenset(), [], [])
