# SPDX-License-Identifier: Apache-2.0
"""Examples in docstrings are correct."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("experiments", "images", "kernel", "results", "sentinel/planner", "testbed")
GUEST_CODE = ("testbed/timing/client/", "kernel/selftests/")  # python2.7


def modules_with_examples() -> list[str]:
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    names = (path.relative_to(ROOT).as_posix() for path in paths if "    >>> " in path.read_text())
    return [name.removesuffix(".py").replace("/", ".") for name in names if not name.startswith(GUEST_CODE)]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings_are_correct(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted
    assert not results.failed
