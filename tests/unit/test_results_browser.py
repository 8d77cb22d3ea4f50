# SPDX-License-Identifier: Apache-2.0
"""The page of a run in a real browser: it loads alone, fits a phone, follows the theme, sorts and filters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from results import page
from results.runs import Run
from tests.browser import TIMEOUT_MS, browser
from tests.fakes.run_records import add, begin, cell_of, steps_of

Theme = Literal["light", "dark"]

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

COLUMN = "[...document.querySelectorAll('table.sortable tbody tr')].filter(row => !row.hidden)"
SCROLLED = """[...document.querySelectorAll("main *")]
  .filter(e => getComputedStyle(e).overflowX === "auto" && e.scrollWidth > e.clientWidth + 1)
  .map(e => e.outerHTML.slice(0, 100))"""


def opened(
    chromium: Browser, path: Path, *, width: int = 1400, theme: Theme = "light"
) -> tuple[Page, list[str]]:
    """Open a page, and return it with the list that gets its messages, errors and requests."""
    tab = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    tab.set_default_timeout(TIMEOUT_MS)
    events: list[str] = []
    tab.on("console", lambda message: events.append(message.text))
    tab.on("pageerror", lambda error: events.append(str(error)))
    tab.on("dialog", lambda dialog: events.append(dialog.message))
    tab.on("request", lambda request: events.append(request.url))
    tab.goto(path.as_uri())
    assert events.pop(0) == path.as_uri()
    return tab, events


def column(tab: Page, title: str) -> list[str]:
    """Return the texts of a column of the visible rows."""
    cells = f"{COLUMN}.map(row => row.querySelector(`td[data-title='{title}']`).textContent.trim())"
    texts: list[str] = tab.evaluate(cells)
    return texts


def test_page_in_a_browser(planned: Run, tmp_path: Path) -> None:
    path = page.write(planned, tmp_path / "report.html")
    with browser() as chromium:
        tab, events = opened(chromium, path)
        policies = ["fast-only", "first-touch", "sentinel", "sentinel-opt"]
        assert column(tab, "Policy") == policies
        tab.click("th button:text-is('Step time')")
        assert column(tab, "Policy") == ["fast-only", "sentinel-opt", "sentinel", "first-touch"]
        tab.click("th button:text-is('Step time')")
        assert column(tab, "Policy") == ["first-touch", "sentinel", "sentinel-opt", "fast-only"]
        tab.click("th button:text-is('Predicted')")  # cells without a figure come last
        assert set(column(tab, "Policy")[:2]) == {"sentinel", "sentinel-opt"}
        tab.fill(".tools input", "SENTINEL 60%")
        assert set(column(tab, "Policy")) == {"sentinel", "sentinel-opt"}
        assert tab.text_content(".tools output") == "2 of 4"
        tab.fill(".tools input", "")
        assert len(column(tab, "Policy")) == 4

        colour = "getComputedStyle(document.body).backgroundColor"
        assert tab.evaluate(colour) == "rgb(255, 255, 255)"
        tab.click("#theme")
        assert tab.evaluate(colour) == "rgb(21, 24, 28)"
        tab.emulate_media(media="print")
        assert tab.evaluate(colour) == "rgb(255, 255, 255)"
        assert not tab.is_visible("#theme")
        assert events == []

        for width in (360, 800):
            narrow, events = opened(chromium, path, width=width, theme="dark")
            assert narrow.evaluate(colour) == "rgb(21, 24, 28)"
            narrow.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
            assert narrow.evaluate("document.documentElement.scrollWidth") == width
            assert width > 360 or narrow.evaluate(SCROLLED) == []
            assert events == []
        narrow.close()
        tab, events = opened(chromium, path, width=360)
        tab.select_option(".tools select", label="Step time, descending")
        assert column(tab, "Policy")[0] == "first-touch"
        assert events == []


def test_page_executes_nothing_from_names(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    cell = {**cell_of("lstm", "fast-only"), "model": {"name": attack, "batch": 8}}
    begin(tmp_path / "run", [cell], suite=f"</title></style>{attack}")
    add(tmp_path / "run", cell, 0, steps_of(cell))
    path = page.write(Run.load(tmp_path / "run"), tmp_path / "report.html")
    with browser() as chromium:
        tab, events = opened(chromium, path, width=360)
        assert tab.text_content("h1") == f"</title></style>{attack}"
        assert tab.evaluate("document.images.length") == 0
        tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(3)>')")
        tab.evaluate("new Promise(resolve => setTimeout(resolve, 200))")
        # The policy refuses even what escaping would let through
        assert any("Content Security Policy" in event for event in events)
        assert not {"1", "2", "3"} & set(events)  # messages of dialogs
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
