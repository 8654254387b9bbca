"""Masks ``key: value`` whose punctuation is percent-encoded or written as entities, wherever it stands.

``?next=%2Fx%3Ftoken%3D…`` in a document, ``data-user="{&quot;token&quot;: &quot;…&quot;}"`` in a page.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from otel_audit.redaction.marks import Marker
from otel_audit.redaction.names import Names, fold

__all__ = ["mask_encoded"]

_MAX_NAME: Final = 100  # characters to the left of a separator
_MAX_ENCODINGS: Final = 4  # an encoded percent sign is looked at so often

_PERCENT: Final = r"%(?:25){0,3}+"
_BLANK: Final = rf"(?:\s|\+|{_PERCENT}20){{0,4}}+"
#: The quote behind a key and its separator, or an encoded equals sign.
_SEPARATOR: Final = re.compile(
    rf"({_PERCENT}2[27]|&(?:amp;){{0,3}}+(?:quot|apos|#0{{0,4}}+3[49]|#x0{{0,4}}+2[27]);)"
    rf"{_BLANK}(?::|=>?|{_PERCENT}3[ad]){_BLANK}"
    rf"|{_PERCENT}3d",
    re.IGNORECASE,
)
_NOT_OF_A_NAME: Final = re.compile(r"[^\w.\-\[\]%$@]+")
#: What ends a value without quotes: in a link, and in JSON.
_LINKED: Final = re.compile(r"(?:[^\s\"'<>\\&%]++|%(?!(?:25){0,3}(?:26|23|22|27|0[ad])))*+", re.IGNORECASE)
_BARE: Final = re.compile(r"(?:[^\s\"'<>\\,}\]&%]++|%(?!(?:25){0,3}(?:2[0c]|5d|7d|22)))*+", re.IGNORECASE)
_CLOSING: Final = re.compile(rf"[\]}}]|{_PERCENT}[57]d", re.IGNORECASE)
_LITERALS: Final = frozenset({"", "null", "true", "false", "None", "True", "False"})


def mask_encoded(text: str, names: Names, marker: Marker) -> str:
    """Return ``text`` with the values of secret names masked where what stands between the two is encoded.

    Args:
        text: any text.
        names: the names of secrets.
        marker: makes what stands in their place.
    """
    if "%" not in text and "&" not in text:
        return text
    lower = fold(text)
    kept: list[str] = []
    done = before = 0
    for separator in _SEPARATOR.finditer(text):
        if separator.start() < done:
            continue
        quote = (separator[1] or "").lower()
        name = _name(text, lower, separator.start(), max(done, before), quote)
        before = separator.end()
        if not name or not names.secret(name):
            continue
        start, end = _value(text, lower, separator.end(), quote)
        if text[start:end] not in _LITERALS:
            kept += (text[done:start], marker.mark(text[start:end]))
            done = end
    return "".join((*kept, text[done:])) if kept else text


def _name(text: str, lower: str, end: int, floor: int, quote: str) -> str:
    """Return the name that ends at ``end``."""
    floor = max(floor, end - _MAX_NAME)
    start = lower.rfind(quote, floor, end) + len(quote) if quote else floor
    if start < max(floor, len(quote)):
        return ""
    name = text[start:end]
    for _ in range(_MAX_ENCODINGS):
        if "%" not in name:
            break
        name = unquote(name)
    return _NOT_OF_A_NAME.split(name)[-1]


def _value(text: str, lower: str, start: int, quote: str) -> tuple[int, int]:
    """Return where the value at ``start`` begins and ends, without its quotes."""
    if not quote:
        found = _LINKED.match(text, start)
    elif lower.startswith(quote, start):
        start += len(quote)
        end = lower.find(quote, start)
        while end > 0 and text[end - 1] == "\\":
            end = lower.find(quote, end + 1)
        return start, len(text) if end < 0 else end
    elif text[start : start + 1] in ("[", "{") or lower.startswith(("%5b", "%7b"), start):
        closing = _CLOSING.search(text, start)
        return start, len(text) if closing is None else closing.end()
    else:
        found = _BARE.match(text, start)
    return start, start if found is None else found.end()
