"""Masks the value that stands beside its name: ``{"name": "password", "value": "…"}``, ``[["token", "…"]]``.

Lists of form fields, of headers and JSON Patch documents are written so. Only objects whose members between the two
are plain are looked at, so that the work stays linear.
"""

from __future__ import annotations

import re
from typing import Final

from otel_audit.redaction.marks import Marker
from otel_audit.redaction.names import Names
from otel_audit.redaction.values import Span, Values

__all__ = ["mask_named"]

_MAX_NAME: Final = 130  # characters to the left of a place, the member's own name included
_MAX_VALUE: Final = 2000  # characters to the left of a name, where its value is looked for
_END: Final = re.compile(r"[\w.\-\[\]%$@ /]*+(?=\\*+[\"']\s*+[,}])")
_NAMING: Final = re.compile(
    r"(?:(\\*+[\"'])(?:name|key|field|path|id|param|parameter|header|attribute|property|label)\1\s*+:\s*+\1"
    r"|[\[,]\s*+\[\s*+(\\*+[\"']))([^\"'\\]{0,100})\Z",
    re.IGNORECASE,
)
_PAIRED: Final = re.compile(r"\\*+[\"']\s*+,\s*+(?=\\*+[\"'])")
_FORWARD: Final = re.compile(
    r"\\*+[\"']\s*+,\s*+"
    r"(?:(?!\\*+\"(?:new|old)?_?value)\\*+\"[^\"\\]{1,40}+\\*+\"\s*+:\s*+"  # a member between the two
    r"(?:\\*+\"[^\"\\]{0,200}+\\*+\"|[\w.+\-]{1,30}+)\s*+,\s*+){0,5}+"
    r"\\*+[\"'](?:new|old)?_?value\\*+[\"']\s*+:\s*+",
    re.IGNORECASE,
)
_BACKWARD: Final = re.compile(r"value\\*+[\"']\s*+:\s*+", re.IGNORECASE)
_BRACES: Final = re.compile(r"[{}]")


def mask_named(text: str, lower: str, names: Names, marker: Marker, *, json: bool) -> str:
    """Return ``text`` with the values masked whose names stand beside them.

    Args:
        text: any text.
        lower: `names.fold` of it.
        names: the names of secrets.
        marker: makes what stands in their place.
        json: whether it is JSON.
    """
    values = Values(text, marker, json=json)
    kept: list[str] = []
    done = 0
    for place in names.places(lower):
        if place < done or (end := _END.match(text, place)) is None:
            continue
        naming = _NAMING.search(text, max(done, place - _MAX_NAME), place)
        if naming is None or not names.secret(text[naming.start(3) : end.end()]):
            continue
        span = _value(text, lower, values, naming, end.end(), done)
        if span is not None and span.start >= done:
            kept += (text[done : span.start], span.mask)
            done = span.end
    return "".join((*kept, text[done:])) if kept else text


def _value(text: str, lower: str, values: Values, naming: re.Match[str], end: int, floor: int) -> Span | None:
    quote = naming[1] or naming[2]
    ahead = (_PAIRED if naming[2] else _FORWARD).match(text, end)
    if ahead is not None:
        return values.value(ahead.end(), quote)
    begin = lower.rfind("value", max(floor, naming.start() - _MAX_VALUE), naming.start())
    behind = None if begin < 0 or naming[2] else _BACKWARD.match(text, begin)
    span = None if behind is None else values.value(behind.end(), quote)
    if span is None or span.end > naming.start() or _BRACES.search(text, span.end, naming.start()) is not None:
        return None
    return span
