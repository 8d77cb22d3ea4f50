# SPDX-License-Identifier: Apache-2.0
"""Scaling of time limits with accelerator and SENTINEL_TIMEOUT_SCALE."""

from __future__ import annotations

import pytest

from testbed.common.errors import UsageError
from testbed.limits import Limits, scaled


def test_kvm_limits_are_unscaled() -> None:
    assert scaled("kvm") == Limits()


@pytest.mark.parametrize(("scale", "factor"), [("1", 20.0), ("0.5", 10.0), ("3", 60.0)])
def test_tcg_and_timeout_scale_multiply_every_limit(
    monkeypatch: pytest.MonkeyPatch, scale: str, factor: float
) -> None:
    monkeypatch.setenv("SENTINEL_TIMEOUT_SCALE", scale)
    limits = vars(scaled("tcg"))
    assert limits == {name: value * factor for name, value in vars(Limits()).items()}


def test_invalid_timeout_scale_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_TIMEOUT_SCALE", "slow")
    with pytest.raises(UsageError, match="SENTINEL_TIMEOUT_SCALE='slow' is not a number"):
        scaled("kvm")


def test_grace_period_is_shorter_than_a_step() -> None:
    assert 0 < Limits().lost < Limits().step
    assert all(value > 0 for value in vars(Limits()).values())
