# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium for tests: the system's, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TIMEOUT_MS = 300_000  # an emulating host is slow


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser for the block. Skips the test if there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        running: Browser = playwright.chromium.launch(
            executable_path=path,
            chromium_sandbox=os.geteuid() != 0,  # root cannot have Chromium's sandbox
            timeout=TIMEOUT_MS,
        )
        try:
            yield running
        finally:
            running.close()
