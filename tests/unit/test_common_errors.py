# SPDX-License-Identifier: Apache-2.0
"""Errors: each class has its own exit code, on which scripts rely."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.common import errors
from testbed.common.errors import ExitCode, SentinelError

KINDS = {
    errors.UsageError: 2,
    errors.BuildError: 3,
    errors.BootError: 4,
    errors.GuestPanicError: 5,
    errors.GuestHangError: 6,
    errors.WorkloadError: 7,
    errors.LostConnectionError: 8,
    errors.InfrastructureError: 9,
}


def test_exit_codes_are_the_documented_ones() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "BUG": 1,
        "USAGE": 2,
        "BUILD": 3,
        "BOOT": 4,
        "PANIC": 5,
        "HANG": 6,
        "WORKLOAD": 7,
        "LOST": 8,
        "INFRASTRUCTURE": 9,
        "REGRESSION": 10,
        "IMPROVEMENT": 11,
        "INCONCLUSIVE": 12,
        "NOT_COMPARABLE": 13,
        "INTERRUPTED": 130,
        "UNREAD": 141,
    }
    assert all(code.doc for code in ExitCode)
    assert len({code.doc for code in ExitCode}) == len(ExitCode)


@pytest.mark.parametrize(("kind", "code"), KINDS.items(), ids=lambda p: getattr(p, "__name__", str(p)))
def test_each_error_has_its_exit_code(kind: type[SentinelError], code: int) -> None:
    error = kind("what", hint="do this", log=Path("/l"))
    assert error.code == code
    assert (str(error), error.message, error.hint, error.log) == ("what", "what", "do this", Path("/l"))
    assert isinstance(error, SentinelError)


def test_every_error_class_has_its_own_exit_code() -> None:
    assert set(SentinelError.__subclasses__()) == set(KINDS)


def test_appended_text_is_part_of_the_message() -> None:
    error = errors.WorkloadError("it failed")
    error.message += "; the console: why"
    assert str(error) == "it failed; the console: why"
