# SPDX-License-Identifier: Apache-2.0
"""Sizes in YAML and messages: `512 MiB`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_MAX_SIZE = 1 << 52  # bytes
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_size(value: object) -> int:
    """Return the bytes of a size such as `512 MiB`. Raises `ValueError` with the allowed form.

    >>> parse_size('1.5 KiB')
    1536
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *(KiB|MiB|GiB)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a size such as 512 MiB or 2 GiB (units KiB, MiB, GiB)")
    size = float(match[1]) * _UNITS[match[2]]
    if size > _MAX_SIZE:
        raise ValueError(f"must be at most {shown_size(_MAX_SIZE)}")
    return int(size)


def shown_size(size: int) -> str:
    """Return `size` bytes in the largest unit that is exact; `parse_size` reads it.

    >>> shown_size(3 << 30), shown_size(1536 << 10)
    ('3 GiB', '1536 KiB')
    """
    unit = next(u for u in ("GiB", "MiB", "KiB") if size % _UNITS[u] == 0 or u == "KiB")
    return f"{size // _UNITS[unit]} {unit}"


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(shown_size, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? *(KiB|MiB|GiB)$"}),
]
