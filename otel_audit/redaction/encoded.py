"""Masks ``key: value`` whose punctuation is percent-encoded or written as entities, wherever it stands.

``?next=%2Fx%3Ftoken%3D…`` in a document, ``data-user="{&quot;token&quot;: &quot;…&quot;}"`` in a page.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from otel_audit.redaction.marks import Marker
from otel_audit.redaction.names import Names, fold
from otel_audit.redaction.values import json_string_end

__all__ = ["mask_encoded"]

_MAX_NAME: Final = 100  # characters to the left of a separator
_MAX_ENCODINGS: Final = 4  # an encoded percent sign is looked at so often

_PERCENT: Final = r"%(?:25){0,3}+"
_BLANK: Final = rf"(?:\s|\+|{_PERCENT}20){{0,4}}+"
_QUOTE: Final = rf"{_PERCENT}2[27]|&(?:amp;){{0,3}}+(?:quot|apos|#0{{0,4}}+3[49]|#x0{{0,4}}+2[27]);"
#: The quote behind a key and its separator, or an encoded equals sign.
_SEPARATOR: Final = re.compile(
    rf"({_QUOTE})"
    rf"{_BLANK}(?::|=>?|{_PERCENT}3[ad]){_BLANK}"
    rf"|{_PERCENT}3d",
    re.IGNORECASE,
)
_NOT_OF_A_NAME: Final = re.compile(r"[^\w.\-\[\]%$@]+")
#: The quote before a value, whatever that of its key is: a ``repr`` chooses by what is inside.
_OPENER: Final = re.compile(rf"[bBuUrRfF]{{0,2}}+({_QUOTE})", re.IGNORECASE)
#: How a string begins: behind ``token%3D`` the quote may as well be that which ends the string with the link.
_STRING: Final = re.compile(rf"(?!{_PERCENT}(?:2[06c]|3a|[57]d|0[ad]))[^\s\"'<>\\,:}}\]&+]", re.IGNORECASE)
#: Two words that are one value.
_SCHEME: Final = rf"(?:(?:bearer|basic|token|jwt|digest)(?:[ +]|{_PERCENT}20){{1,4}}+)?+"
#: What ends a value without quotes: in a link, and in JSON, where a list, dict or call may follow.
_LINKED: Final = re.compile(_SCHEME + r"(?:[^\s\"'<>\\&%]++|%(?!(?:25){0,3}(?:26|23|22|27|0[ad])))*+", re.IGNORECASE)
_BARE: Final = re.compile(
    _SCHEME + r"(?:[^\s\"'<>\\,(){}\[\]&%]++|%(?!(?:25){0,3}(?:2[0c]|2[789]|5[bd]|7[bd]|22)))*+", re.IGNORECASE
)
#: A bracket that opens (1) or closes (2), or a quote (3), in which brackets do not count.
_BRACKET: Final = re.compile(
    rf"([\[{{(]|{_PERCENT}(?:28|[57]b))|([\]}})]|{_PERCENT}(?:29|[57]d))|({_QUOTE})", re.IGNORECASE
)
_LITERALS: Final = frozenset({"", "null", "true", "false", "None", "True", "False"})


def mask_encoded(text: str, names: Names, marker: Marker, *, json: bool = False) -> str:
    """Return ``text`` with the values of secret names masked where what stands between the two is encoded.

    Args:
        text: any text.
        names: the names of secrets.
        marker: makes what stands in their place.
        json: whether it is JSON, where a value ends with the string in which it stands, if not before.
    """
    if "%" not in text and "&" not in text:
        return text
    lower = fold(text)
    kept: list[str] = []
    done = before = 0
    limit = 0 if json else len(text)
    for separator in _SEPARATOR.finditer(text):
        if separator.start() < done:
            continue
        quote = (separator[1] or "").lower()
        name = _name(text, lower, separator.start(), max(done, before), quote)
        before = separator.end()
        if not name or not names.secret(name):
            continue
        if before > limit:
            limit = json_string_end(text, before)
        start, end = _value(text, lower, before, quote, limit)
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


def _value(text: str, lower: str, start: int, quote: str, limit: int) -> tuple[int, int]:
    """Return where the value at ``start`` begins and ends, without its quotes."""
    opener = _OPENER.match(text, start, limit)
    if opener is not None and (quote or _STRING.match(text, opener.end(), limit)):
        return opener.end(), _closing_quote(lower, opener.end(), opener[1].lower(), limit)
    found = (_BARE if quote else _LINKED).match(text, start, limit)
    end = start if found is None else found.end()
    if quote and (bracket := _BRACKET.match(text, end, limit)) is not None and bracket[1]:
        end = _container_end(text, lower, end, limit)
    return start, end


def _closing_quote(lower: str, start: int, quote: str, limit: int) -> int:
    """Return where the string that begins at ``start`` ends."""
    if quote[0] == "%":
        found = _percent_encoded(quote).match(lower, start, limit)
        return start if found is None else found.end()
    end = lower.find(quote, start, limit)
    while end > start and lower[end - 1] == "\\":
        end = lower.find(quote, end + 1, limit)
    return limit if end < 0 else end


@lru_cache(maxsize=8)
def _percent_encoded(quote: str) -> re.Pattern[str]:
    """Return a pattern for a string up to ``quote``, or to what no percent-encoded text has."""
    return re.compile(rf"(?:[^\s\"'<>\\%]++|\\(?:{quote})?+|{_PERCENT}5c(?:{quote})?+|%(?!{quote[1:]}))*+")


def _container_end(text: str, lower: str, position: int, limit: int) -> int:
    """Return where the list, dict or call that begins at ``position`` is over."""
    depth = 0
    while (found := _BRACKET.search(text, position, limit)) is not None:
        position = found.end()
        if found[3]:
            quote = found[3].lower()
            position = min(limit, _closing_quote(lower, position, quote, limit) + len(quote))
        else:
            depth += 1 if found[1] else -1
            if depth <= 0:
                return position
    return limit
