# SPDX-License-Identifier: Apache-2.0
"""Progress: a display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from testbed.common import progress
from testbed.common.progress import note, step, suspended, warn


def timeless(text: str) -> list[str]:
    return re.sub(r"\(\d+\.\d s\)", "(T)", text).splitlines()


def test_nested_steps_report_their_result(capsys: pytest.CaptureFixture[str]) -> None:
    with step("Building"):
        note("from a tree")
        with step("Compiling") as inner:
            warn("slow disk")
            inner.done("cached")
    note("after")
    output = capsys.readouterr()
    assert timeless(output.err) == [
        "Building ...",
        "  from a tree",
        "  Compiling ...",
        "    warning: slow disk",
        "  Compiling: cached (T)",
        "Building: done (T)",
        "after",
    ]
    assert output.out == ""


def test_failed_step_is_reported_and_raises(capsys: pytest.CaptureFixture[str]) -> None:
    for reason in (ValueError("no"), KeyboardInterrupt()):
        with pytest.raises(type(reason)), step("Outer"), step("Inner"):
            raise reason
        note("level again")
        assert timeless(capsys.readouterr().err)[2:] == [
            "  Inner: failed (T)",
            "Outer: failed (T)",
            "level again",
        ]


def test_step_reports_its_duration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with step("Waiting") as s:
        monkeypatch.setattr("time.monotonic", lambda: s.started + 61.25)
    assert "Waiting: done (61.2 s)" in capsys.readouterr().err


def test_long_step_reports_regularly_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    with step("Compiling") as s:
        started = s._last_line
        monkeypatch.setattr("time.monotonic", lambda: started + now[0])
        for second in range(0, 65, 5):
            now[0] = float(second)
            s.update(second / 100, f"file {second}")
        s.update(None, "unknown")
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "..." in line] == [
        "Compiling ...",
        "  ...  30% file 30",
        "  ...  60% file 60",
    ]


def test_markup_in_text_is_printed_literally(capsys: pytest.CaptureFixture[str]) -> None:
    with step("[bold]x[/bold]"):
        note("a[0] [/red] [link=x]")
        warn("[green]")
    output = capsys.readouterr().err
    for text in ("[bold]x[/bold] ...", "a[0] [/red] [link=x]", "warning: [green]", "[bold]x[/bold]: done"):
        assert text in output


def test_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    note("word " * 100)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_terminal_has_one_display_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr(progress, "console", terminal)
    with step("Outer") as outer:
        display = progress._live
        assert display is not None
        with step("Inner") as inner:
            assert progress._live is display
            inner.update(0.25, "[x] half")
            outer.update(None, "going on")
            assert [task.completed for task in display.tasks] == [0.0, 0.25]
            assert [task.total for task in display.tasks] == [None, 1.0]
        assert len(display.tasks) == 1
    assert progress._live is None
    assert isinstance(terminal.file, io.StringIO)
    output = terminal.file.getvalue()
    assert "  Inner: done" in output
    assert "Outer: done" in output
    assert "Outer ..." not in output


def test_suspended_display_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr(progress, "console", terminal)
    assert isinstance(terminal.file, io.StringIO)
    with suspended():
        pass  # without a display there is nothing to suspend
    with step("Outer") as outer:
        display = progress._live
        assert display is not None
        with suspended(), suspended():
            written = terminal.file.getvalue()
            outer.update(0.5, "half")
            assert terminal.file.getvalue() == written
            assert not display.live.is_started
        assert display.live.is_started
        assert [task.completed for task in display.tasks] == [0.5]


def test_failed_step_ends_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(progress, "console", terminal)
    with pytest.raises(ValueError, match="no"), step("Outer"):
        raise ValueError("no")
    assert progress._live is None
