# SPDX-License-Identifier: Apache-2.0
"""Expected failures, each with a message of one line."""

from __future__ import annotations


class PlannerError(Exception):
    """An expected failure. The message is one line."""


class FormatError(PlannerError):
    """A profile, plan or figures file that cannot be read or is invalid. The message names file and field."""


class BudgetError(PlannerError):
    """No plan fits the budget. `floor` is the smallest budget for which a plan exists, in bytes."""

    def __init__(self, message: str, *, floor: int) -> None:
        super().__init__(message)
        self.floor = floor
