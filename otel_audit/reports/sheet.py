"""Paper: pages with header and footer, a pen that knows how far down it is, and places that are filled in later.

The report is written in one pass over the rows, so that its counts are those of the rows that it shows and no page
waits in memory as drawing instructions. What is known only at the end (the number of pages, the counts on the cover,
the page numbers of the contents) is drawn as a form that the pages refer to by name and that is defined last.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Final

from django.utils.translation import gettext as _
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase.pdfdoc import PDFName, PDFStream
from reportlab.pdfgen.canvas import Canvas

from otel_audit.reports.typeface import BOLD, MONO, SANS, displayable, fit, runs, width
from otel_audit.text import cut

__all__ = [
    "AMBER",
    "BLUE",
    "BOTTOM",
    "FILL",
    "GREEN",
    "GREY",
    "INK",
    "LEFT",
    "RED",
    "RIGHT",
    "RULE",
    "SKY",
    "TOP",
    "WIDTH",
    "Sheet",
]

PAGE_WIDTH, PAGE_HEIGHT = A4
LEFT: Final = 48.0
RIGHT: Final = PAGE_WIDTH - 48.0
WIDTH: Final = RIGHT - LEFT
TOP: Final = PAGE_HEIGHT - 68.0
BOTTOM: Final = 58.0

INK: Final = HexColor(0x1F2937)
GREY: Final = HexColor(0x5B6472)
RULE: Final = HexColor(0xD1D5DB)
FILL: Final = HexColor(0xF3F4F6)
RED: Final = HexColor(0xB91C1C)
AMBER: Final = HexColor(0xA84A0A)
GREEN: Final = HexColor(0x15803D)
BLUE: Final = HexColor(0x2563EB)
SKY: Final = HexColor(0x93C5FD)

_SIZES: Final = {1: 15.0, 2: 10.5}
_OUTLINE_TITLE: Final = 80  # characters


class Sheet:
    """One PDF being written: `y` is the height in points from the bottom of the page at which the pen stands."""

    def __init__(self, target: BinaryIO, *, title: str, author: str, footer: str) -> None:
        self.canvas = Canvas(target, pagesize=A4, pageCompression=1)
        self.canvas.setTitle(title)
        self.canvas.setAuthor(author)
        self.canvas.setSubject(_("Audit trail"))
        self.canvas.setCreator("otel-audit")
        self.canvas.setProducer("otel-audit")
        self.title = title
        self.page = 0
        self.y = TOP
        #: Key of a section → title and the page that it begins on.
        self.sections: dict[str, tuple[str, int]] = {}
        self._footer = footer

    def new_page(self) -> None:
        """Begin a page: header, footer, pen at the top."""
        self._close_page()
        self.page += 1
        self.y = TOP
        self.text(LEFT, PAGE_HEIGHT - 38, self.title, BOLD, 7.5)
        self.late("service", RIGHT, PAGE_HEIGHT - 38)
        self.line(PAGE_HEIGHT - 45)
        self.line(BOTTOM - 14)
        before, _separator, _after = _("Page {page} of {pages}").partition("{pages}")
        number = before.format(page=self.page)
        self.text(LEFT, BOTTOM - 25, number, SANS, 7, GREY)
        # A trailing space has its width, but a line of text may be trimmed: the form stands where it ends.
        self.late("pages", LEFT + width(number, SANS, 7), BOTTOM - 25)
        footer = fit(self._footer, WIDTH - 110, MONO, 6)
        self.text(RIGHT, BOTTOM - 25, footer, MONO, 6, GREY, align="right")

    def need(self, height: float) -> bool:
        """Begin a new page unless ``height`` points are left on this one; say whether a page was begun."""
        if self.y - height >= BOTTOM:
            return False
        self.new_page()
        return True

    def section(self, key: str, title: str) -> None:
        """Write the heading of a section; it can be reached from the contents and the outline."""
        self.need(90)
        if self.y < TOP:
            self.y -= 14
        self.sections[key] = (title, self.page)
        self.canvas.bookmarkHorizontal(key, 0, self.y + 6)
        self.canvas.addOutlineEntry(title, key, 0, closed=True)
        self.y -= 16
        self.text(LEFT, self.y, title, BOLD, _SIZES[1])
        self.y -= 12

    def heading(self, title: str) -> None:
        """Write a heading within a section."""
        self.need(40)
        self.y -= 14
        self.text(LEFT, self.y, fit(title, WIDTH, BOLD, _SIZES[2]), BOLD, _SIZES[2])
        self.y -= 8

    def note(self, text: str) -> None:
        """Write a line of small print."""
        self.need(14)
        self.y -= 10
        self.text(LEFT, self.y, fit(text, WIDTH, SANS, 7.5), SANS, 7.5, GREY)
        self.y -= 4

    def outline(self, key: str, title: str) -> None:
        """Let ``title``, which begins where the pen stands, be reached from the outline, below its section."""
        self.canvas.bookmarkHorizontal(key, 0, self.y + 6)
        self.canvas.addOutlineEntry(cut(displayable(title), _OUTLINE_TITLE), key, 1, closed=True)

    def text(
        self,
        x: float,
        y: float,
        line: str,
        face: str = SANS,
        size: float = 7.5,
        color: Color = INK,
        *,
        align: str = "left",
    ) -> None:
        """Write a line that went through `fit` or `displayable`; with ``align="right"`` it ends at ``x``."""
        if not line:
            return
        if align == "right":
            x -= width(line, face, size)
        pen = self.canvas.beginText(x, y)
        pen.setFillColor(color)
        for font, piece in runs(line, face):
            pen.setFont(font, size)
            pen.textOut(piece)
        self.canvas.drawText(pen)

    def line(self, y: float, x: float = LEFT, to: float = RIGHT, color: Color = RULE) -> None:
        """Draw a hairline."""
        self.canvas.setStrokeColor(color)
        self.canvas.setLineWidth(0.5)
        self.canvas.line(x, y, to, y)

    def box(self, x: float, y: float, wide: float, high: float, color: Color, *, radius: float = 0) -> None:
        """Draw a filled rectangle."""
        self.canvas.setFillColor(color)
        if radius:
            self.canvas.roundRect(x, y, wide, high, min(radius, wide / 2, high / 2), stroke=0, fill=1)
        else:
            self.canvas.rect(x, y, wide, high, stroke=0, fill=1)

    def link(self, key: str, x: float, y: float, wide: float, high: float) -> None:
        """Let a click into the rectangle go to the section ``key``, which may come later."""
        self.canvas.linkRect("", key, (x, y, x + wide, y + high), relative=0, thickness=0)

    def link_out(self, url: str, x: float, y: float, wide: float, high: float) -> None:
        """Let a click into the rectangle open an address."""
        self.canvas.linkURL(url, (x, y, x + wide, y + high), relative=0, thickness=0)

    def late(self, name: str, x: float = 0, y: float = 0) -> None:
        """Leave a place that `define` fills; its origin is at ``x``, ``y``."""
        self.canvas.saveState()
        self.canvas.translate(x, y)
        self.canvas.doForm(name)
        self.canvas.restoreState()

    def define(self, name: str, draw: Callable[[], object]) -> None:
        """Fill the places called ``name`` with what ``draw`` draws."""
        wide, high = round(PAGE_WIDTH), round(PAGE_HEIGHT)
        self.canvas.beginForm(name, -wide, -high, wide, high)
        draw()
        self.canvas.endForm()

    def finish(self, service: str) -> int:
        """Fill in the header and the number of pages, write the file, return the number of pages."""
        self._close_page()
        after = _("Page {page} of {pages}").partition("{pages}")[2]
        self.define("pages", lambda: self.text(0, 0, f"{self.page}{after}", SANS, 7, GREY))
        header = fit(service, WIDTH - 120, SANS, 7.5)
        self.define("service", lambda: self.text(0, 0, header, SANS, 7.5, GREY, align="right"))
        self.canvas.save()
        return self.page

    def _close_page(self) -> None:
        """Show the page and compress it now: until the file is written, reportlab keeps pages as plain text."""
        if self.page == 0:
            return
        self.canvas.showPage()
        canvas: Any = self.canvas
        page = canvas._doc.Pages.pages[-1]
        stream = PDFStream(content=zlib.compress(page.stream.encode("latin-1")), filters=[])
        stream.dictionary["Filter"] = PDFName("FlateDecode")
        page.Contents, page.stream = stream, None
