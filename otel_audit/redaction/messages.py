"""Masks the values that databases and libraries quote in their error messages, away from their names."""

from __future__ import annotations

import re
from typing import Final

from otel_audit.redaction.marks import Marker
from otel_audit.redaction.names import Names
from otel_audit.redaction.values import json_string_end

__all__ = ["mask_messages"]

#: MySQL.
_DUPLICATE: Final = re.compile(r"(Duplicate entry ')([^\n]{1,1000}?)(' for key '([^'\n]{1,200})')")
#: PostgreSQL: a row with all its columns, and without their names.
_ROW: Final = "Failing row contains ("
_ROW_END: Final = re.compile(r"\)\.(?=[\s\\\"']|\Z)|\)?\Z")
#: Up to where the end of a row may still come when what looked like it was followed by a blank: the line's end, or that
#: of the string of JSON around the message.
_REACH: Final = re.compile(r"(?:[^\n\"\\]++|\\(?!n).?|\"(?!\s*+[,:}\]]))*+")
#: Pydantic: the field's name in the line before.
_INPUT: Final = re.compile(
    r"^([\w.\-]{1,200}+)(\n[^\n]{1,500}?\binput_value=)([^\n]{1,1000}?)(?=, input_type=|$)", re.MULTILINE
)


def mask_messages(text: str, names: Names, marker: Marker, *, json: bool = False) -> str:
    """Return ``text`` with such values masked.

    Args:
        text: any text.
        names: the names of secrets.
        marker: makes what stands in their place.
        json: whether it is JSON, where a message ends with its string.
    """
    mark, secret = marker.mark, names.secret
    if "Duplicate entry" in text:
        text = _DUPLICATE.sub(
            lambda found: f"{found[1]}{mark(found[2])}{found[3]}" if secret(found[4]) else found[0], text
        )
    if _ROW in text:
        text = _mask_rows(text, marker, json=json)
    if "=" in text and "input_value=" in text:
        text = _INPUT.sub(lambda found: f"{found[1]}{found[2]}{mark(found[3])}" if secret(found[1]) else found[0], text)
    return text


def _mask_rows(text: str, marker: Marker, *, json: bool) -> str:
    kept: list[str] = []
    done = 0
    while (start := text.find(_ROW, done)) >= 0:
        start += len(_ROW)
        end = _row_end(text, start, json_string_end(text, start) if json else len(text))
        kept += (text[done:start], marker.mark(text[start:end]))
        done = end
    return "".join((*kept, text[done:]))


def _row_end(text: str, start: int, limit: int) -> int:
    """Return where the row at ``start`` ends: its columns may themselves have ``).``, as in "I am (here). So"."""
    found = _ROW_END.search(text, start, limit)
    end = limit if found is None else found.start()
    if text[end + 2 : end + 3] != " ":
        return end
    reach = _REACH.match(text, end, limit)
    return max(end, text.rfind(").", end, limit if reach is None else reach.end()))
