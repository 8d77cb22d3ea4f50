# SPDX-License-Identifier: Apache-2.0
"""Progress bars on a terminal, plain lines elsewhere; both on standard error.

    with step("Building Linux 4.9.0") as s:
        s.update(0.4, "mm/migrate.o")

Steps nest. Each prints its duration.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from testbed.common import streams


class _StandardError(io.TextIOBase):
    """Standard error that ignores write errors: work does not fail for want of a reader."""

    @property
    def _stream(self) -> Any:
        # A live display replaces sys.stderr by a proxy that writes to this console
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(getattr(self._stream, "encoding", None) or "utf-8")

    def write(self, text: str) -> int:
        with self._tolerant():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._tolerant():
            self._stream.flush()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Discard standard error once it fails."""
        try:
            yield
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                streams.discard(self.fileno())
        except (ValueError, AttributeError):
            pass  # closed or absent

    def isatty(self) -> bool:
        return bool(self._stream is not None and self._stream.isatty())

    def fileno(self) -> int:
        return int(self._stream.fileno())


console = Console(file=cast(IO[str], _StandardError()), highlight=False)

_PLAIN_EVERY_S = 30.0  # seconds between lines of a long step without a terminal
_live: Progress | None = None
_depth = 0


@dataclass
class Step:
    """A running step. `update` may be called at any rate."""

    title: str
    depth: int
    started: float = field(default_factory=time.monotonic)
    result: str = ""
    _task: TaskID | None = None
    _last_line: float = field(default_factory=time.monotonic)
    _rows: dict[str, TaskID] = field(default_factory=dict)

    def update(self, fraction: float | None = None, text: str = "") -> None:
        """Show the `fraction` of the work done (0 to 1, None if unknown) and the current item."""
        if _live is not None and self._task is not None:
            total = None if fraction is None else 1.0
            _live.update(self._task, completed=fraction or 0.0, total=total, text=escape(text))
        elif time.monotonic() - self._last_line >= _PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            share = "" if fraction is None else f" {fraction:4.0%}"
            _print(self.depth + 1, f"...{share} {text}")

    def show_row(self, key: str, text: str) -> None:
        """Show a row below the step, for one of several things that go on at once; on a terminal only."""
        if _live is None:
            return
        if key not in self._rows:
            self._rows[key] = _live.add_task("  " * (self.depth + 1) + escape(key), total=None, text="")
        _live.update(self._rows[key], text=escape(text))

    def remove_row(self, key: str) -> None:
        """Remove a row, if it is shown."""
        task = self._rows.pop(key, None)
        if _live is not None and task is not None:
            _live.remove_task(task)

    def done(self, result: str) -> None:
        """Set the text behind the title at the end, such as `cached`."""
        self.result = result


def _print(depth: int, text: str, style: str = "") -> None:
    console.print("  " * depth + escape(text), style=style, soft_wrap=True)


def is_live() -> bool:
    """Whether a step shows its progress on a terminal."""
    return _live is not None


def note(text: str) -> None:
    """Print one line of information."""
    _print(_depth, text)


def warn(text: str) -> None:
    """Print one line of warning."""
    _print(_depth, f"warning: {text}", style="yellow")


@contextlib.contextmanager
def step(title: str) -> Iterator[Step]:
    """Show a step while the block runs, then its result and duration."""
    global _live, _depth  # noqa: PLW0603 -- one terminal, one progress display
    s = Step(title, _depth)
    with contextlib.ExitStack() as stack:
        if console.is_terminal and _live is None:
            _live = stack.enter_context(
                Progress(
                    TextColumn("{task.description}"),
                    BarColumn(bar_width=24),
                    TimeElapsedColumn(),
                    TextColumn("{task.fields[text]}"),
                    console=console,
                    transient=True,
                )
            )
            stack.callback(_end_live)
        if _live is not None:
            s._task = _live.add_task("  " * s.depth + escape(title), total=None, text="")
        else:
            _print(s.depth, f"{title} ...")
        _depth += 1
        try:
            yield s
        except BaseException:
            _depth -= 1
            _finish(s, "failed")
            raise
        _depth -= 1
        _finish(s, s.result or "done")


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Hide the bars while the block runs, since something else writes to the terminal."""
    live = _live
    if live is None or not live.live.is_started:
        yield
        return
    live.stop()
    try:
        yield
    finally:
        live.start()


def _end_live() -> None:
    global _live  # noqa: PLW0603
    _live = None


def _finish(s: Step, word: str) -> None:
    for key in list(s._rows):
        s.remove_row(key)
    if _live is not None and s._task is not None:
        _live.remove_task(s._task)
    _print(
        s.depth,
        f"{s.title}: {word} ({time.monotonic() - s.started:.1f} s)",
        "red" if word == "failed" else "",
    )
