# SPDX-License-Identifier: Apache-2.0
"""Scalars of the core schema of YAML 1.2 (YAML 1.2.2, section 10.3.2), and text for messages about them.

`no`, `1:30` and a date are text, `010` is ten, `0o10` is eight. Whole numbers have at most 64 bits, and
numbers are finite, so that JSON can hold them.
"""

from __future__ import annotations

import json
import math
import re

_BLANK = {"", "~", "null", "Null", "NULL"}
_TRUTH = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def shown(text: str, limit: int = 60) -> str:
    """Shorten `text` to one line, quoted if it is empty, unprintable or padded.

    >>> print(shown('a list'), shown(' padded'), shown('x' * 80, limit=3))
    a list " padded" xxx...
    """
    short = text if len(text) <= limit else text[:limit] + "..."
    plain = short.isprintable() and short == short.strip() and short != ""
    return short if plain else json.dumps(short)


def plain(text: str) -> str:
    """Return `text` as YAML, in quotes if YAML would read a different value.

    >>> print(plain('auto'), plain('4.9'))
    auto "4.9"
    """
    try:
        return text if shown(text) == text and resolve(text) == text else json.dumps(text)
    except ValueError:
        return json.dumps(text)


def resolve(text: str) -> str | int | float | bool | None:
    """Resolve a plain scalar by the core schema. Raises `ValueError` for a number out of bounds.

    >>> resolve('010'), resolve('0o10'), resolve('no'), resolve('~')
    (10, 8, 'no', None)
    """
    if text in _BLANK:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    for pattern, base in ((_DECIMAL, 10), (_OCTAL, 8), (_HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            digits = text.lstrip("+-") if base == 10 else text[2:]
            number = int(digits, base) if len(digits.lstrip("0")) <= 22 else 1 << 64
            number = -number if text[0] == "-" else number
            if not -(1 << 63) <= number < 1 << 63:
                raise ValueError("a whole number must fit into 64 bits")
            return number
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("a number must be finite")
    if _FLOAT.fullmatch(text):
        if math.isinf(float(text)):
            raise ValueError("a number must be finite")
        return float(text)
    return text
