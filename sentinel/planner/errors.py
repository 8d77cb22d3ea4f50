# SPDX-License-Identifier: Apache-2.0
"""What can go wrong by no fault of the planner: one line each."""

from __future__ import annotations


class PlannerError(Exception):
    """An expected failure, told in one line."""


class FormatError(PlannerError):
    """A profile, plan or file of figures that cannot be read or is not what it says; names file and field."""


class BudgetError(PlannerError):
    """No plan fits into the budget. `floor` is the smallest number of bytes of fast memory that will do."""

    def __init__(self, message: str, *, floor: int) -> None:
        super().__init__(message)
        self.floor = floor
