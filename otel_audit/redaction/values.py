"""Where the value of a secret's key begins and ends: quoted, a list or dict, a call, or bare.

JSON in a JSON string writes its quotes as ``\\"``, one level deeper as ``\\\\\\"``: the number of backslashes at a
quote is its level, and a quote with fewer of them ends the string around it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from otel_audit.redaction.patterns import MASK

__all__ = ["Span", "closing_quote", "header_line", "value"]

_JSON_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_OPENER: Final = re.compile(r"[bBuUrRfF]{0,2}+(\\*+)([\"'])")
_QUOTE: Final = re.compile(r"(?<!\\)(\\*+)([\"'])")
_STRING_END: Final = re.compile(r"[\"']\s*+(?:[,}\])]|\Z|(?<=\s)[+%]\s)")
_LITERAL: Final = re.compile(r"(?:null|true|false|None|True|False|undefined)(?![\w.\-])")
_BRACKET: Final = re.compile(r"(?<!\\)(\\*+)([\"'])|[\[\]{}()]")
_HEADER_LINE: Final = re.compile(r"(?:[^\r\n\"'\\]++|\\(?![rn\"'\\]))*+")
#: Punctuation belongs to a bare value unless something follows it that shows the value's end.
_BARE: Final = re.compile(
    r"(?:(?i:bearer|basic|token|jwt|digest)[ ]{1,4}(?=\S))?+"
    r"(?:[^\s,;&\"'<>()\[\]{}\\]++"
    r"|[,;](?!\s|\Z|[\"'\\]|[\w.\-%\[\]]{1,64}\s?[=:])"
    r"|&(?!\s|\Z|[\"'\\]|[\w.\-%\[\]]{1,64}=)"
    r"|[)\]}>](?!\s|\Z|[\"'\\)\]}>,;.:&])"
    r"|(?<=\w)'(?=\w)"
    r"|\\(?![nrtu\"'\\])"
    r")*+"
)
_REPR: Final = re.compile(r"<(?=[A-Z][\w.]*+[: ])[^<>\n]{0,500}+>?+")


class Span(NamedTuple):
    """A part of a text, and what to write in its place."""

    start: int
    end: int
    mask: str


def value(text: str, position: int, key_quote: str, limit: int) -> Span | None:
    """Return the value that begins at ``position``; None where it is empty, ``null``, a boolean or masked already.

    Args:
        text: the whole text.
        position: behind the separator and its blanks.
        key_quote: the quote of the key with its backslashes; what was no string becomes one with this quote.
        limit: how far the value can reach.
    """
    if key_quote == '"' and (string := _JSON_STRING.match(text, position)) is not None:
        return _span(text, position + 1, string.end() - 1)
    if text.startswith(MASK, position) or position >= limit:
        return None
    opener = _OPENER.match(text, position, limit)
    if opener is not None:
        return _quoted(text, opener, limit, in_string=not key_quote)
    mask = f"{key_quote}{MASK}{key_quote}"
    if text[position] in "[{(":
        return Span(position, _closing_bracket(text, position, max(0, len(key_quote) - 1), limit), mask)
    if _LITERAL.match(text, position, limit) is not None:
        return None
    end = _bare_end(text, position, limit)
    return Span(position, end, mask) if end > position else None


def header_line(text: str, position: int) -> Span | None:
    """Return the rest of a header's line."""
    line = _HEADER_LINE.match(text, position)
    return None if line is None or not line[0] or line[0] == MASK else Span(position, line.end(), MASK)


def _quoted(text: str, opener: re.Match[str], limit: int, *, in_string: bool) -> Span | None:
    if in_string and not opener[1] and _STRING_END.match(text, opener.end() - 1):
        return None  # the quote that ends the string in which the key stands
    start = opener.end()
    return _span(text, start, closing_quote(text, start, len(opener[1]), opener[2], limit)[0])


def _span(text: str, start: int, end: int) -> Span | None:
    return None if end == start or text[start:end] == MASK else Span(start, end, MASK)


def _bare_end(text: str, position: int, limit: int) -> int:
    """Return where a value without quotes ends, calls such as ``UUID('…')`` included."""
    begin = position
    while True:
        end = _end(_BARE, text, position, limit)
        following = text[end : end + 1] if end < limit else ""
        if following == "<" and end == begin:
            return _end(_REPR, text, end, limit)
        if following not in ("(", "[", "{"):
            return end
        position = _closing_bracket(text, end, 0, limit)


def _end(pattern: re.Pattern[str], text: str, position: int, limit: int) -> int:
    match = pattern.match(text, position, limit)
    return position if match is None else match.end()


def closing_quote(text: str, position: int, level: int, quote: str, limit: int) -> tuple[int, int]:
    """Return where a quoted value ends, and where the text goes on behind its quote."""
    while (match := _QUOTE.search(text, position, limit)) is not None:
        position = match.end()
        if match[2] != quote:
            continue
        run = len(match[1])
        if run % (2 * level + 2) == level:
            return match.end() - 1 - level, match.end()
        if run < level:
            return match.start(), match.start()
    return limit, limit


def _closing_bracket(text: str, position: int, level: int, limit: int) -> int:
    """Return where the list, dict or call that begins at ``position`` is over, `limit` where it does not end."""
    depth = 0
    while (match := _BRACKET.search(text, position, limit)) is not None:
        position = match.end()
        if match[2]:
            if len(match[1]) < level:
                return match.start()
            position = closing_quote(text, position, len(match[1]), match[2], limit)[1]
        elif match[0] in "[{(":
            depth += 1
        else:
            depth -= 1
            if depth <= 0:
                return position
    return limit
