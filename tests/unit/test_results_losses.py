# SPDX-License-Identifier: Apache-2.0
"""Losses of repeats that must agree are compared bit for bit."""

from __future__ import annotations

from results import losses


def sequence(name: str, values: dict[int, float]) -> losses.Sequence:
    return losses.Sequence(name, {step: loss.hex() for step, loss in values.items()})


def test_losses_are_compared_bit_for_bit() -> None:
    a, b = sequence("a", {0: 2.0, 1: 1.5}), sequence("b", {1: 1.5, 2: 1.0})
    assert losses.check("m", [a, b]).text == "2 repeats, 1 steps, bit for bit"
    off = sequence("c", {2: 1.0 + 2**-52})
    difference = losses.check("m", [a, b, off])
    assert difference.outcome == "differ"
    assert "at step 2 b has 1 (0x1.0000000000000p+0), c has 1 (0x1.0000000000001p+0)" in difference.text
    assert losses.check("m", [a]).outcome == "not compared"
    assert losses.check("m", [a, sequence("d", {9: 1.0})]).outcome == "not compared"
    assert losses.check("m", [sequence("a", {0: 0.0}), sequence("b", {0: -0.0})]).outcome == "differ"
    nan = losses.check("m", [sequence("a", {0: float("nan")}), sequence("b", {0: float("nan")})])
    assert "some are not finite" in nan.text
