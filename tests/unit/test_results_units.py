# SPDX-License-Identifier: Apache-2.0
"""Numbers and text as people read them."""

from __future__ import annotations

from results.units import digits, duration, printable


def test_numbers_are_formatted_for_people() -> None:
    assert duration(5.0e6, low=4.9e6, high=5.07e6) == "5.00 ms (4.90 to 5.07)"
    assert [duration(ns) for ns in (7, 1.5e3, 123.4e6, 61e9)] == ["7.00 ns", "1.50 us", "123 ms", "61.0 s"]
    assert [digits(v) for v in (0, 0.123456, 12.34, 99.96, 12345)] == ["0", "0.123", "12.3", "100", "12345"]
    assert printable("a\x1b[31m\n b\ud800") == "a[31m b"
