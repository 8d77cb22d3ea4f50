# SPDX-License-Identifier: Apache-2.0
"""Format numbers for people."""

from __future__ import annotations

import unicodedata

_BYTE_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
_TIME_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))


def time_unit(ns: float) -> tuple[float, str]:
    """Return the unit that suits a time: its length in nanoseconds and its name."""
    rounded = abs(ns) * 1.0005  # to three digits: 1 s, not 1000 ms
    return next((unit for unit in _TIME_UNITS if rounded >= unit[0]), _TIME_UNITS[-1])


def duration(ns: float, *, low: float | None = None, high: float | None = None, gap: str = " ") -> str:
    """Format nanoseconds as `12.3 ms`, or with an interval as `12.3 ms (12.1 to 12.6)`.

    `gap` separates the value from the interval.

    >>> duration(12_340_000, low=12_100_000, high=12_600_000)
    '12.3 ms (12.1 to 12.6)'
    """
    size, unit = time_unit(ns)
    text = f"{digits(ns / size)} {unit}"
    if low is not None and high is not None:
        text += f"{gap}({digits(low / size)} to {digits(high / size)})"
    return text


def factor(
    value: float, *, low: float | None = None, high: float | None = None, places: int = 3, gap: str = " "
) -> str:
    """Format a ratio, with its interval if it has one.

    >>> factor(1.25, low=1.2, high=1.3)
    '1.250 (1.200 to 1.300)'
    """

    def text(number: float) -> str:
        return f"{number:.{places}f}" if number < 1e4 else f"{number:.1e}"

    return text(value) if low is None or high is None else f"{text(value)}{gap}({text(low)} to {text(high)})"


def digits(value: float) -> str:
    """Format three significant digits, or all integer digits of a number from 100 to 10 million.

    >>> digits(0.12345), digits(8), digits(12345.6)
    ('0.123', '8.00', '12346')
    """
    if abs(value) >= 1e7:  # the interval of two very different repeats
        return f"{value:.2e}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 0.9995 else f"{value:#.3g}".rstrip(".")


def byte_unit(number: int) -> tuple[int, str]:
    """Return the unit that suits a number of bytes: its size in bytes and its name."""
    return next((size, unit) for size, unit in _BYTE_UNITS if number >= size or size == 1)


def in_common_unit(*numbers: int) -> tuple[str, ...]:
    """Format numbers of bytes in the unit of the largest, and append the unit.

    >>> in_common_unit(5 << 20, 1536 << 20)
    ('0.00488', '1.50', 'GiB')
    """
    size, unit = byte_unit(max(numbers))
    return (*(digits(number / size) for number in numbers), unit)


def percent(share: float) -> str:
    """Format a share from 0 to 1.

    >>> percent(0.1234)
    '12.3%'
    """
    return f"{share:.1%}"


def without_control(text: str) -> str:
    """Return text without the control characters that XML does not allow; line breaks and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs", "Cn"))


def printable(text: str) -> str:
    """Return one line without control characters, which could steer a terminal or break XML."""
    return "".join(c for c in " ".join(text.split()) if unicodedata.category(c) not in ("Cc", "Cs", "Cn"))
