# SPDX-License-Identifier: Apache-2.0
"""Time limits scale with the accelerator and with SENTINEL_TIMEOUT_SCALE, all alike."""

from __future__ import annotations

import pytest

from testbed.common.errors import UsageError
from testbed.limits import Limits, scaled


def test_under_kvm_the_limits_are_as_they_stand() -> None:
    assert scaled("kvm") == Limits()


@pytest.mark.parametrize(("scale", "factor"), [("1", 20.0), ("0.5", 10.0), ("3", 60.0)])
def test_emulation_and_a_slow_host_stretch_every_limit(
    monkeypatch: pytest.MonkeyPatch, scale: str, factor: float
) -> None:
    monkeypatch.setenv("SENTINEL_TIMEOUT_SCALE", scale)
    limits = vars(scaled("tcg"))
    assert limits == {name: value * factor for name, value in vars(Limits()).items()}


def test_a_scale_that_is_no_number_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_TIMEOUT_SCALE", "slow")
    with pytest.raises(UsageError, match="SENTINEL_TIMEOUT_SCALE='slow' is not a number"):
        scaled("kvm")


def test_a_panic_is_waited_for_less_long_than_a_step() -> None:
    assert 0 < Limits().lost < Limits().step
    assert all(value > 0 for value in vars(Limits()).values())
