"""Tables of fixed row heights that go on over pages.

Drawn cell by cell: reportlab's own tables lay out every cell twice and take a minute for 50,000 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from reportlab.lib.colors import Color

from otel_audit.reports.sheet import FILL, INK, LEFT, WIDTH, Sheet
from otel_audit.reports.typeface import BOLD, SANS, displayable, fit, wrap

__all__ = ["Cell", "Column", "Table"]

ROW: Final = 12.0
SIZE: Final = 6.8
_PADDING: Final = 3.0
_DETAIL_ROW: Final = ROW - 3
_DETAIL_SIZE: Final = SIZE - 0.6
_DETAIL_LINES: Final = 3


class Cell(NamedTuple):
    """What stands in a table: text, its colour and where a click on it leads."""

    text: str
    color: Color = INK
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column: heading, width in points, face, size and where its text is aligned."""

    title: str
    width: float
    face: str = SANS
    size: float = SIZE
    align: str = "left"

    def holds(self, text: str) -> bool:
        """Say whether ``text`` stands in the column uncut."""
        return self.fitted(text) == displayable(text)

    def fitted(self, text: str) -> str:
        """Return ``text`` as it stands in the column."""
        return fit(text, self.width - 2 * _PADDING, self.face, self.size)


class Table:
    """A table at the pen of ``sheet``; its header is repeated on every page."""

    def __init__(self, sheet: Sheet, columns: Sequence[Column]) -> None:
        self._sheet = sheet
        self._columns = columns
        sheet.need(3 * ROW)
        self._header()

    def row(self, cells: Sequence[Cell], details: Sequence[Cell] = ()) -> None:
        """Write a row, and below it ``details``, each of at most `_DETAIL_LINES` lines."""
        sheet = self._sheet
        room = WIDTH - self._columns[0].width - 2 * _PADDING
        lines = [
            (line, detail.color)
            for detail in details
            for line in wrap(detail.text, room, SANS, _DETAIL_SIZE, _DETAIL_LINES)
        ]
        if sheet.need(ROW + _DETAIL_ROW * len(lines)):
            self._header()
        sheet.y -= ROW
        x = LEFT
        for column, cell in zip(self._columns, cells, strict=True):
            self._cell(column, x, cell)
            x += column.width
        for line, color in lines:
            sheet.y -= _DETAIL_ROW
            sheet.text(LEFT + self._columns[0].width + _PADDING, sheet.y + 3.5, line, SANS, _DETAIL_SIZE, color)
        sheet.line(sheet.y)

    def _header(self) -> None:
        sheet = self._sheet
        sheet.y -= ROW + 1
        sheet.box(LEFT, sheet.y, WIDTH, ROW + 1, FILL)
        x = LEFT
        for column in self._columns:
            heading = Column(column.title, column.width, BOLD, SIZE, column.align)
            self._cell(heading, x, Cell(column.title))
            x += column.width
        sheet.line(sheet.y)

    def _cell(self, column: Column, x: float, cell: Cell) -> None:
        line = column.fitted(cell.text)
        if cell.url is not None:
            self._sheet.link_out(cell.url, x, self._sheet.y, column.width, ROW)
        if column.align == "right":
            x += column.width - 2 * _PADDING
        self._sheet.text(
            x + _PADDING, self._sheet.y + 3.6, line, column.face, column.size, cell.color, align=column.align
        )
