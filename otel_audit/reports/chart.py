"""The chart of the summary: requests per span of time, stacked by status class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from django.utils.translation import gettext as _
from reportlab.lib.colors import Color

from otel_audit.reports.sheet import AMBER, GREY, LEFT, RED, RIGHT, RULE, SKY, Sheet
from otel_audit.reports.typeface import SANS, width
from otel_audit.reports.wording import count, moment

__all__ = ["draw_bars"]

_AXIS: Final = LEFT + 34.0
_SIZE: Final = 6.4


def draw_bars(sheet: Sheet, bars: Sequence[tuple[datetime, Counter[str]]], long: timedelta, *, height: float) -> None:
    """Draw a legend and a stacked bar for each of ``bars``, each ``long``; the pen ends below the labels."""
    _legend(sheet)
    base = sheet.y - height
    top = _round_up(max(sum(counter.values()) for _began, counter in bars))
    _grid(sheet, base, height, top)
    slot = (RIGHT - _AXIS) / max(len(bars), 12)
    last_label = -math.inf
    for number, (began, counter) in enumerate(bars):
        x = _AXIS + slot * number
        _bar(sheet, x + slot * 0.12, base, slot * 0.76, height / top, counter)
        label = _label(began, long)
        wide = width(label, SANS, _SIZE)
        left = x + slot / 2 - wide / 2
        if left > last_label + 5 and left + wide <= RIGHT + 8:
            sheet.text(left, base - 9, label, SANS, _SIZE, GREY)
            last_label = left + wide
    sheet.y = base - 14
    period = _("from {since} UTC").format(since=moment(bars[0][0], "minutes"))
    sheet.text(RIGHT, base - 21, period, SANS, _SIZE, GREY, align="right")


def _classes() -> list[tuple[str, tuple[str, ...], Color]]:
    return [
        (_("below 400"), ("1xx", "2xx", "3xx"), SKY),
        ("4xx", ("4xx",), AMBER),
        ("5xx", ("5xx",), RED),
        (_("no status"), ("",), GREY),
    ]


def _legend(sheet: Sheet) -> None:
    x = _AXIS
    for label, _kinds, color in _classes():
        sheet.box(x, sheet.y - 1, 7, 7, color)
        sheet.text(x + 11, sheet.y, label, SANS, _SIZE + 0.4)
        x += 11 + width(label, SANS, _SIZE + 0.4) + 18
    sheet.y -= 10


def _grid(sheet: Sheet, base: float, height: float, top: int) -> None:
    parts = next(parts for parts in (5, 4, 3, 2, 1) if top % parts == 0)
    for part in range(parts + 1):
        y = base + height * part / parts
        sheet.line(y, _AXIS, RIGHT, RULE)
        sheet.text(_AXIS - 5, y - 2.2, count(top * part // parts), SANS, _SIZE, GREY, align="right")


def _bar(sheet: Sheet, x: float, base: float, wide: float, scale: float, counter: Counter[str]) -> None:
    for _label_text, kinds, color in _classes():
        high = sum(counter[kind] for kind in kinds) * scale
        if high:
            sheet.box(x, base, wide, high, color)
            base += high


def _round_up(number: int) -> int:
    """Return the next number of the form 1, 2 or 5 times a power of ten."""
    power: int = 10 ** (len(str(number)) - 1)
    return next(step * power for step in (1, 2, 5, 10) if step * power >= number)


def _label(began: datetime, long: timedelta) -> str:
    utc = began.astimezone(UTC)
    if long < timedelta(hours=1):
        return f"{utc:%H:%M}"
    if long < timedelta(days=1):
        return f"{utc:%H}" if utc.hour else f"{utc:%m-%d}"
    return f"{utc:%m-%d}" if long < timedelta(days=300) else f"{utc:%Y}"
