# SPDX-License-Identifier: Apache-2.0
"""Options of the whole suite."""

from __future__ import annotations

import signal

import hypothesis
import pytest

# The same examples in every run, so that a failure is of the change at hand; "explore" draws new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.register_profile("explore", derandomize=False)
hypothesis.settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Shells ignore Ctrl-C for what they start in the background, and tests of Ctrl-C would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow", action="store_true", help="also run what takes many minutes, such as kernel builds"
    )
    parser.addoption(
        "--stress",
        type=float,
        default=10,
        metavar="SECONDS",
        help="how long the profiler's stress and fuzz tests run",
    )
    parser.addoption(
        "--kernel",
        action="append",
        choices=["4.9", "6.1"],
        help="only machines with this kernel; may be repeated (default: each that has a source)",
    )
