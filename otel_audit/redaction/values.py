"""Where the value of a secret's key begins and ends: quoted, a list or dict, a call, or bare.

JSON in a JSON string writes its quotes as ``\\"``, one level deeper as ``\\\\\\"``: the number of backslashes at a
quote is its level, and a quote with fewer of them ends the string around it. In JSON ``\\\\"`` ends a string that ends
with a backslash; in a ``repr`` of JSON it is a quote inside the string. Where both could be meant, the longer value is
taken.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from otel_audit.redaction.marks import Marker, is_mark, mark_at

__all__ = ["Span", "Values", "json_string_end"]

_JSON_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_JSON_REST: Final = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_OPENER: Final = re.compile(r"[bBuUrRfF]{0,2}+(\\*+)([\"'])")
_QUOTE: Final = re.compile(r"(?<!\\)(\\*+)([\"'])")
_STRING_END: Final = re.compile(r"[\"']\s*+(?:[,}\])]|\Z|(?<=\s)[+%]\s)")
_LITERAL: Final = re.compile(r"(?:null|true|false|None|True|False|undefined|%[srd])(?![\w.\-])")
_BRACKET: Final = re.compile(r"(?<!\\)(\\*+)([\"'])|[\[\]{}()]")
#: Quotes of its own stand behind an equals sign: ``Digest username="ada", response="…"``. So may the quote that ends
#: the string around the header, ``["Cookie: a=", "b"]``: what follows it, and the next quote, tells the two apart.
_HEADER_LINE: Final = re.compile(
    r"(?:[^\r\n\"'\\]++|\\(?![rn\"'\\])"
    r"|(?<==)(\\*+)\"(?![\s,:;.?)\]}>+&|]|/>)[^\r\n\"\\]*+(?:\1\"(?=[\s,;)\]}<\"'\\]|\Z)|(?=[\r\n]|\Z)))*+"
)
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
_BLANK: Final = re.compile(r"[ \t]++(?=[^\s,;&<>)\]}\"'])")
_REPR: Final = re.compile(r"<(?=[A-Z][\w.]*+[: ])[^<>\n]{0,500}+>?+")


class Span(NamedTuple):
    """A part of a text, and what to write in its place."""

    start: int
    end: int
    mask: str


def json_string_end(text: str, position: int) -> int:
    """Return where the string of JSON ends in which ``position`` is."""
    rest = _JSON_REST.match(text, position)
    return position if rest is None else rest.end()


class Values:
    """Finds the values in one text.

    Args:
        text: any text.
        marker: makes what stands in the place of a value.
        json: whether it is JSON.
    """

    def __init__(self, text: str, marker: Marker, *, json: bool) -> None:
        self._text = text
        self._mark = marker.mark
        self._json = json
        self._backslashes = "\\\\" in text
        self._from, self._limit = 1, 0

    def value(self, position: int, key_quote: str, *, same_line: bool = True, words: bool = False) -> Span | None:
        """Return the value at ``position``; None where it is empty, ``null``, a boolean or masked already.

        Args:
            position: behind the separator and its blanks.
            key_quote: the quote of the key with its backslashes; what was no string becomes one with this quote.
            same_line: whether the value stands in the key's line; the next line after ``case "token":`` is no value.
            words: whether a value without quotes can have several words, as in ``password: two words`` on its own line.
        """
        text = self._text
        if self._json and key_quote == '"' and (string := _JSON_STRING.match(text, position)) is not None:
            return self._span(position + 1, string.end() - 1)
        limit = len(text) if key_quote else self._reach(position)
        if mark_at(text, position) or position >= limit:
            return None
        opener = _OPENER.match(text, position, limit)
        if opener is not None:
            return self._quoted(opener, limit, in_string=not key_quote)
        if text[position] in "[{(":
            end = self._container_end(position, max(0, len(key_quote) - 1), limit)
            return self._all(position, self._bare_end(end, limit), key_quote)
        elsewhere = not (same_line or self._json or text[position] in "-0123456789")
        if elsewhere or _LITERAL.match(text, position, limit) is not None:
            return None
        end = self._bare_end(position, limit)
        while words and (blank := _BLANK.match(self._text, end, limit)) is not None:
            end = self._bare_end(blank.end(), limit)
        return self._all(position, end, key_quote) if end > position else None

    def header_line(self, position: int) -> Span | None:
        """Return the rest of a header's line."""
        limit = self._reach(position) if self._json else len(self._text)
        return self._span(position, self._end(_HEADER_LINE, position, limit))

    def _reach(self, position: int) -> int:
        """Return how far a value reaches whose key has no quotes: in JSON to the end of the string, else of the line.

        The last answer is kept: a long line of many keys is looked through once.
        """
        if not self._from <= position <= self._limit:
            end = json_string_end(self._text, position) if self._json else self._text.find("\n", position)
            self._from, self._limit = position, len(self._text) if end < 0 else end
        return self._limit

    def _quoted(self, opener: re.Match[str], limit: int, *, in_string: bool) -> Span | None:
        if in_string and not opener[1] and _STRING_END.match(self._text, opener.end() - 1):
            return None  # the quote that ends the string in which the key stands
        start = opener.end()
        thrice = (opener[1] + opener[2]) * 3
        if self._text.startswith(thrice, opener.start(1)):
            start = opener.start(1) + len(thrice)
            if self._json and opener[1]:
                limit = self._reach(start)
            end = self._text.find(thrice, start, limit if self._json else len(self._text))  # it may have lines
            return self._span(start, limit if end < 0 else end)
        return self._span(start, self._closing_quote(start, len(opener[1]), opener[2], limit, json=self._json)[0])

    def _span(self, start: int, end: int) -> Span | None:
        if end == start:
            return None
        value = self._text[start:end]
        return None if is_mark(value) else Span(start, end, self._mark(value))

    def _all(self, start: int, end: int, quote: str) -> Span:
        """Return a value that has no quotes of its own, to be replaced by a string."""
        return Span(start, end, f"{quote}{self._mark(self._text[start:end])}{quote}")

    def _bare_end(self, position: int, limit: int) -> int:
        """Return where a value without quotes ends, calls such as ``UUID('…')`` included."""
        begin = position
        while True:
            end = self._end(_BARE, position, limit)
            following = self._text[end : end + 1] if end < limit else ""
            if following == "<" and end == begin:
                return self._end(_REPR, end, limit)
            if following not in ("(", "[", "{"):
                return end
            position = self._container_end(end, 0, limit)

    def _end(self, pattern: re.Pattern[str], position: int, limit: int) -> int:
        match = pattern.match(self._text, position, limit)
        return position if match is None else match.end()

    def _container_end(self, position: int, level: int, limit: int) -> int:
        """Return where the list, dict or call that begins at ``position`` is over, ``limit`` where it does not end."""
        end = self._closing_bracket(position, level, limit, json=True)
        if self._json or not self._backslashes:
            return end
        return max(end, self._closing_bracket(position, level, limit, json=False))

    def _closing_bracket(self, position: int, level: int, limit: int, *, json: bool) -> int:
        depth = 0
        while (match := _BRACKET.search(self._text, position, limit)) is not None:
            position = match.end()
            if match[2]:
                if len(match[1]) < level:
                    return match.start()
                position = self._closing_quote(position, len(match[1]), match[2], limit, json=json)[1]
            elif match[0] in "[{(":
                depth += 1
            else:
                depth -= 1
                if depth <= 0:
                    return position
        return limit

    def _closing_quote(self, position: int, level: int, quote: str, limit: int, *, json: bool) -> tuple[int, int]:
        """Return where a quoted value ends, and where the text goes on behind its quote."""
        while (match := _QUOTE.search(self._text, position, limit)) is not None:
            position = match.end()
            if match[2] != quote:
                continue
            run = len(match[1])
            if run == level or (json and run % (2 * level + 2) == level):
                return position - 1 - level, position
            if run < level:
                return match.start(), match.start()
        return limit, limit
