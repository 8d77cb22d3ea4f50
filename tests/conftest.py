# SPDX-License-Identifier: Apache-2.0
"""Options of the whole suite."""

from __future__ import annotations

import signal

import hypothesis
import pytest

# Every run has the same examples, so that a failure comes from the change; "explore" draws new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.register_profile("explore", derandomize=False)
hypothesis.settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Restore Ctrl-C, which shells ignore in background jobs, for the tests of it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow", action="store_true", help="also run tests that take many minutes, such as kernel builds"
    )
    parser.addoption(
        "--stress",
        type=float,
        default=10,
        metavar="SECONDS",
        help="duration of the profiler's stress and fuzz tests",
    )
    parser.addoption(
        "--kernel",
        action="append",
        choices=["4.9", "6.1"],
        help="test with this kernel only; may be repeated (default: each kernel that has a source)",
    )
