# SPDX-License-Identifier: Apache-2.0
"""Budgets of fast memory in text form."""

from __future__ import annotations

import re

from .errors import PlannerError

_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse(text: str, peak: int) -> int:
    """Convert `14 MiB`, `14680064`, or `20%` of `peak` to whole bytes, rounded down.

    Raises PlannerError for any other text, and for budgets of 0 or of 2^62 bytes and more.

    >>> parse('14 MiB', peak=0), parse('20%', peak=1000)
    (14680064, 200)
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *(%|B|KiB|MiB|GiB|)", text.strip())
    if match is None:
        raise PlannerError(f"budget: must be a size such as 14 MiB, or a share such as 20%, not {text!r}")
    number, unit = float(match[1]), match[2]
    size = int(number * peak / 100) if unit == "%" else int(number * _UNITS[unit])
    if not 0 < size < 1 << 62:
        raise PlannerError(f"budget: must be more than 0 and less than 2^62 bytes, not {text!r}")
    return size
