"""Masks the values that databases and libraries quote in their error messages, away from their names."""

from __future__ import annotations

import re
from typing import Final

from otel_audit.redaction.marks import Marker
from otel_audit.redaction.names import Names

__all__ = ["mask_messages"]

#: MySQL.
_DUPLICATE: Final = re.compile(r"(Duplicate entry ')([^\n]{1,1000}?)(' for key '([^'\n]{1,200})')")
#: PostgreSQL: a row with all its columns, and without their names.
_ROW: Final = re.compile(r"(Failing row contains \()(.*?)(\)\.(?=[\s\\\"']|\Z)|\)?\Z)", re.DOTALL)
#: Pydantic: the field's name in the line before.
_INPUT: Final = re.compile(
    r"^([\w.\-]{1,200}+)(\n[^\n]{1,500}?\binput_value=)([^\n]{1,1000}?)(?=, input_type=|$)", re.MULTILINE
)


def mask_messages(text: str, names: Names, marker: Marker) -> str:
    """Return ``text`` with such values masked.

    Args:
        text: any text.
        names: the names of secrets.
        marker: makes what stands in their place.
    """
    mark, secret = marker.mark, names.secret
    if "Duplicate entry" in text:
        text = _DUPLICATE.sub(
            lambda found: f"{found[1]}{mark(found[2])}{found[3]}" if secret(found[4]) else found[0], text
        )
    if "Failing row" in text:
        text = _ROW.sub(lambda found: f"{found[1]}{mark(found[2])}{found[3]}", text)
    if "=" in text and "input_value=" in text:
        text = _INPUT.sub(lambda found: f"{found[1]}{found[2]}{mark(found[3])}" if secret(found[1]) else found[0], text)
    return text
