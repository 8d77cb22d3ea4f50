# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

from __future__ import annotations

import unicodedata

_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
_SCALES = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))


def scale_of(ns: float) -> tuple[float, str]:
    """The unit in which to show times around `ns` nanoseconds: its size in ns and its name."""
    return next((s for s in _SCALES if abs(ns) >= s[0]), _SCALES[-1])


def duration(ns: float, *, low: float | None = None, high: float | None = None, gap: str = " ") -> str:
    """`12.3 ms`, or with a spread `12.3 ms (12.1 to 12.6)`, `gap` before it; three digits at least."""
    size, unit = scale_of(ns)
    text = f"{digits(ns / size)} {unit}"
    if low is not None and high is not None:
        text += f"{gap}({digits(low / size)} to {digits(high / size)})"
    return text


def digits(value: float) -> str:
    """Three significant digits, and never an exponent where whole digits do."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:#.3g}".rstrip(".")


def size_of(number: int) -> tuple[int, str]:
    """The unit for a number of bytes: its size in bytes and its name."""
    return next((size, unit) for size, unit in _SIZES if number >= size or size == 1)


def parts(*numbers: int) -> tuple[str, ...]:
    """Numbers of bytes in one unit that suits the largest, and the unit: `("5.12", "6.00", "MiB")`."""
    size, unit = size_of(max(numbers))
    return (*(digits(number / size) for number in numbers), unit)


def percent(share: float) -> str:
    return f"{share:.1%}"


def plain(text: str) -> str:
    """One line without control characters: what a guest wrote must neither steer a terminal nor break XML."""
    return "".join(c for c in " ".join(text.split()) if unicodedata.category(c) not in ("Cc", "Cs", "Cn"))
