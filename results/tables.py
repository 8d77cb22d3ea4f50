# SPDX-License-Identifier: Apache-2.0
"""Tables for terminals of any width, without breaking words that fit on a line.

In a narrow terminal text wraps between words, and figures wrap at `BREAK` or `INNER_BREAK`. If the columns
still do not fit side by side, each row becomes a block of lines.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd  # slow to import, and most commands have no frames

BREAK = "\x1f"  # a space at which a figure may wrap
INNER_BREAK = "\x1e"  # one at which it may wrap if its parts are still too long
_GAP = 2  # characters between columns


@dataclass(frozen=True)
class Column:
    """A column of text, or of figures, which are right-aligned and wrap only at `BREAK`."""

    title: str
    figures: bool = False

    def pieces(self, text: str) -> list[str]:
        """Split the text of a cell into parts that must not be broken."""
        return text.replace(INNER_BREAK, BREAK).split(BREAK) if self.figures else text.split()


@dataclass(frozen=True)
class Section:
    """Rows with one `Text` per column, below a heading unless `title` is empty."""

    title: str
    lines: Sequence[Sequence[Text]]


@dataclass
class Grid:
    """A table of sections with common columns, a title above and a caption below."""

    columns: Sequence[Column]
    sections: Sequence[Section]
    title: Text = field(default_factory=Text)
    caption: Text = field(default_factory=Text)

    @classmethod
    def of_frame(
        cls,
        frame: pd.DataFrame,
        *,
        section: str,
        text_columns: Container[str],
        styles: Mapping[str, str],
        title: Text,
        caption: Text,
    ) -> Grid:
        """Build a table from a frame of text, with one section per value of the column `section`.

        Columns not in `text_columns` are figures. `styles` maps texts to their Rich style.
        """
        body = frame.drop(columns=section, errors="ignore")
        columns = [Column(str(name), figures=name not in text_columns) for name in body]
        sections = [
            Section(
                str(heading),
                [[Text(text, styles.get(text, "")) for text in line] for line in body.loc[group].to_numpy()],
            )
            for heading, group in frame.groupby(section, sort=False).groups.items()
        ]
        return cls(columns, sections, title, caption)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield self.title
        widths = self._widths(options.max_width)
        if widths is not None and any(column.title for column in self.columns):
            yield self._table([[Text(c.title, style="bold") for c in self.columns]], widths)
        for section in self.sections:
            if section.title:
                yield Text(section.title, style="bold")
            if widths is not None:
                yield self._table(section.lines, widths)
            else:
                yield from self._blocks(section.lines)
        if self.caption:
            yield self.caption

    def _widths(self, available: int) -> list[int] | None:
        """Return the column widths, or None if the columns do not fit without breaking words."""
        least, most = [], []
        for number, column in enumerate(self.columns):
            texts = [line[number].plain for section in self.sections for line in section.lines]
            pieces = [*column.title.split(), *(piece for text in texts for piece in column.pieces(text))]
            least.append(max(map(cell_len, pieces), default=0))
            most.append(max(map(_length, [column.title, *texts])))
        available -= _GAP * (len(self.columns) - 1)
        if sum(least) > available:
            return None
        for level in range(max(most, default=0), -1, -1):  # narrow the widest columns first
            widths = [max(low, min(high, level)) for low, high in zip(least, most, strict=True)]
            if sum(widths) <= available:
                break
        return widths

    def _table(self, lines: Iterable[Sequence[Text]], widths: list[int]) -> RenderableType:
        table = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
        for column, width in zip(self.columns, widths, strict=True):
            table.add_column(justify="right" if column.figures else "left", width=width, overflow="fold")
        for line in lines:
            table.add_row(*(_fitted(text, width) for text, width in zip(line, widths, strict=True)))
        return table

    def _blocks(self, lines: Iterable[Sequence[Text]]) -> Iterable[RenderableType]:
        for number, line in enumerate(lines):
            if number:
                yield Text()
            for column, text in zip(self.columns, line, strict=True):
                if text:
                    title = Text(f"{column.title}: " if column.title else "", style="bold")
                    yield Padding(Text.assemble(title, _joined(text, " ")), (0, 0, 0, 2))


def _length(text: str) -> int:
    return cell_len(text.replace(BREAK, " ").replace(INNER_BREAK, " "))


def _fitted(text: Text, width: int) -> Text:
    if _length(text.plain) <= width:
        return _joined(text, " ")
    parts = [
        _replaced(part, INNER_BREAK, " " if _length(part.plain) <= width else "\n")
        for part in text.split(BREAK, allow_blank=True)
    ]
    return Text("\n").join(parts)


def _joined(text: Text, by: str) -> Text:
    return _replaced(_replaced(text, BREAK, by), INNER_BREAK, by)


def _replaced(text: Text, old: str, new: str) -> Text:
    return Text(new).join(text.split(old, allow_blank=True)) if old in text.plain else text
