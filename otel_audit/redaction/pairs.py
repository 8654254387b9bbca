"""Finds ``key: value`` wherever a secret's key stands – JSON, JSON in JSON strings, ``repr`` of a dict, query strings,
headers, log lines, XML elements – and masks the value where it stands.

Nothing is parsed: text that is cut, nested 100,000 levels deep or no JSON at all is treated alike, duplicate keys are
both seen, and everything else stays as it was, byte for byte. The work is linear: names are looked for with
``str.find``, and only around a hit a few patterns are tried, each of which takes what it repeats for good.
"""

from __future__ import annotations

import re
from typing import Final

from otel_audit.redaction.names import HINTS, Names
from otel_audit.redaction.patterns import MASK

__all__ = ["PairMasker", "fold"]

_MAX_KEY: Final = 100  # characters to the left of a hit
_MAX_NAME: Final = 200
_MAX_ELEMENT: Final = 8192  # characters of an element's text where the document is no markup

_WORD: Final = re.compile(r"[\w.\-\[\]%$@]*+(?:(?<=\w) (?:id|number|no|key|code)\b)?+", re.IGNORECASE)
_KEY_CHARACTER: Final = re.compile(r"[\w.\-\[\]%$@]")
_SPACED_TAIL: Final = re.compile(r"[^\"'\n\\=:,]{0,80}+(?=\\*+[\"'])")
_CLOSING: Final = re.compile(r"(\\*+)([\"'])")
_SPACE: Final = re.compile(r"(?:\s|\\+[nrt])*+")
_BLANK: Final = re.compile(r"[ \t]*+")
_SEPARATOR: Final = re.compile(r"=>|=(?![=~])|:=|:(?!:|//)")
_OPENER: Final = re.compile(r"[bBuUrRfF]{0,2}+(\\*+)([\"'])")
_QUOTE: Final = re.compile(r"(?<!\\)(\\*+)([\"'])")
_LITERAL: Final = re.compile(r"(?:null|true|false|None|True|False|undefined)(?![\w.\-])")
_BARE: Final = re.compile(
    r"(?:(?i:bearer|basic|token|jwt|digest)[ ]{1,4}(?=\S))?+"
    r"(?:[^\s,;&\"'<>()\[\]{}|\\]"
    r"|[,;](?!\s|\Z|[\"'\\]|[\w.\-%\[\]]{1,64}\s?[=:])"
    r"|&(?!\s|\Z|[\"'\\]|[\w.\-%\[\]]{1,64}=)"
    r"|[)\]}>](?!\s|\Z|[\"'\\)\]}>,;.:&])"
    r"|(?<=\w)'(?=\w)"
    r"|\\(?![nrtu\"'\\])"
    r"|\|)*+"
)
_HEADER_LINE: Final = re.compile(r"(?:[^\r\n\"'\\]|\\(?![rn\"'\\]))*+")
_HEADER: Final = re.compile(r"(?:http|proxy|set|[^a-z])*+(?:authorization|cookie)2?\Z", re.IGNORECASE)
_BRACKET: Final = re.compile(r"(?<!\\)(\\*+)([\"'])|[\[\]{}()]")
_TAG_REST: Final = re.compile(r"[^<>]{0,1000}+>")
_PREFIX: Final = re.compile(r"<[\w.\-]{1,40}:\Z")
_NAME: Final = re.compile(r"[\w.\-:]++")

Span = tuple[int, int, str]


def fold(text: str) -> str:
    """Return ``text`` with ASCII letters in lower case: every character stays at its place."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


class PairMasker:
    """Masks the values of secret keys in text; immutable and thread-safe."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._hints = tuple(dict.fromkeys((*HINTS, *(name[:3] for name in sorted(names.extra) if name))))

    def mask(self, text: str, lower: str, *, markup: bool = False) -> str:
        """Return ``text`` with the values of secret keys masked.

        Args:
            text: any text.
            lower: `fold` of it.
            markup: whether it is XML or HTML: then an element that does not end is masked to the end of the text.
        """
        hits = self._hits(lower)
        if not hits:
            return text
        kept: list[str] = []
        done = checked = 0
        for hit in hits:
            if hit < checked:
                continue
            checked = _WORD.match(text, hit).end()  # type: ignore[union-attr]  # it matches the empty string too
            span = self._span(text, lower, hit, checked, done, markup)
            if span is not None:
                start, end, mask = span
                kept += (text[done:start], mask)
                done = end
                checked = max(checked, end)
        if not kept:
            return text
        kept.append(text[done:])
        return "".join(kept)

    def _hits(self, lower: str) -> list[int]:
        hits: list[int] = []
        for hint in self._hints:
            position = lower.find(hint)
            while position >= 0:
                hits.append(position)
                position = lower.find(hint, position + len(hint))
        hits.sort()
        return hits

    def _span(self, text: str, lower: str, hit: int, end: int, floor: int, markup: bool) -> Span | None:
        """Return where the value begins and ends whose key contains ``hit``, and what to write there."""
        start = _left(text, hit, floor)
        if start and text[start - 1] in "<:":
            element = self._element(text, lower, start, end, markup)
            if element is not None:
                return element
        closing = _CLOSING.match(text, end)
        if closing is None and (tail := _SPACED_TAIL.match(text, end)) is not None:
            closing = _CLOSING.match(text, tail.end())
            end = end if closing is None else tail.end()
        space = _BLANK if closing is None else _SPACE
        after = space.match(text, end if closing is None else closing.end())
        separator = _SEPARATOR.match(text, after.end())  # type: ignore[union-attr]  # it matches the empty string too
        if separator is None:
            return None
        name = text[start : min(end, start + _MAX_NAME)]
        if not self._names.secret(name):
            name = _longer_name(text, start, end, floor, closing)
            if not name or not self._names.secret(name):
                return None
        position = space.match(text, separator.end()).end()  # type: ignore[union-attr]
        if closing is None and separator[0] == ":" and _HEADER.match(name):
            line = _HEADER_LINE.match(text, position)
            if line is not None and line[0]:
                return position, line.end(), MASK
        return _value(text, position, "" if closing is None else closing[0])

    def _element(self, text: str, lower: str, start: int, end: int, markup: bool) -> Span | None:
        """Return the text of the element whose name contains the hit, None where there is no such element."""
        tag = start - 1
        if text[tag] == ":":
            prefix = _PREFIX.search(text, max(0, start - 42), start)
            if prefix is None:
                return None
            tag = prefix.start()
        rest = _TAG_REST.match(text, end)
        if (
            rest is None
            or rest[0].endswith("/>")
            or not self._names.secret(text[start : min(end, start + _MAX_NAME)])
        ):
            return None
        begin = rest.end()
        limit = len(text) if markup else begin + _MAX_ELEMENT
        close = lower.find("</" + lower[tag + 1 : end], begin, limit)
        if close < 0:
            return (begin, len(text), MASK) if markup and begin < len(text) else None
        return (begin, close, MASK) if close > begin else None


def _left(text: str, hit: int, floor: int) -> int:
    """Return where the word begins that contains ``hit``."""
    limit = max(floor, hit - _MAX_KEY)
    while hit > limit and _KEY_CHARACTER.match(text[hit - 1]):
        hit -= 1
    return hit


def _longer_name(text: str, start: int, end: int, floor: int, closing: re.Match[str] | None) -> str:
    """Return a name that has spaces: all between the quotes, or two words."""
    limit = max(floor, start - _MAX_KEY)
    if closing is not None:
        quote = text.rfind(closing[2], limit, start)
        return text[quote + 1 : min(end, quote + 1 + _MAX_NAME)] if quote >= 0 else ""
    if start <= limit or text[start - 1] != " ":
        return ""
    return text[_left(text, start - 1, floor) : min(end, start + _MAX_NAME)]


def _value(text: str, position: int, key_quote: str) -> Span | None:
    """Return the extent of the value that begins at ``position``; None where it is empty or no secret."""
    if text.startswith(MASK, position):
        return None
    opener = _OPENER.match(text, position)
    if opener is not None:
        start = opener.end()
        end = _closing_quote(text, start, len(opener[1]), opener[2])[0]
        return None if end == start or text[start:end] == MASK else (start, end, MASK)
    mask = f"{key_quote}{MASK}{key_quote}"
    if text[position : position + 1] in ("[", "{", "("):
        end = _closing_bracket(text, position, len(key_quote) - 1 if key_quote else 0)
        if end > 0:
            return position, end, mask
        if key_quote:
            return position, len(text), mask
    if _LITERAL.match(text, position):
        return None
    end = _bare_end(text, position)
    return None if end == position else (position, end, mask)


def _bare_end(text: str, position: int) -> int:
    """Return where a value without quotes ends, calls such as ``UUID('…')`` included."""
    while True:
        end = _BARE.match(text, position).end()  # type: ignore[union-attr]  # it matches the empty string too
        following = text[end : end + 1]
        if following == "<" and end == position:
            close = text.find(">", end, end + 500)
            return close + 1 if close > 0 else end + 1
        if following not in ("(", "[", "{"):
            return end
        position = _closing_bracket(text, end, 0)
        if position < 0:
            return _BARE.match(text, end + 1).end()  # type: ignore[union-attr]


def _closing_quote(text: str, position: int, level: int, quote: str) -> tuple[int, int]:
    """Return where a quoted value ends, and where the text goes on behind its quote.

    JSON in a JSON string writes its quotes as ``\\"``, one level deeper as ``\\\\\\"``: ``level`` is the number of
    backslashes at the opening quote. Fewer of them end the string around it.
    """
    for match in _QUOTE.finditer(text, position):
        if match[2] != quote:
            continue
        run = len(match[1])
        if run % (2 * level + 2) == level:
            return match.end() - 1 - level, match.end()
        if run < level:
            return match.start(), match.start()
    return len(text), len(text)


def _closing_bracket(text: str, position: int, level: int) -> int:
    """Return where the list, dict or call that begins at ``position`` is over; -1 where it does not end."""
    depth = 0
    while (match := _BRACKET.search(text, position)) is not None:
        position = match.end()
        if match[2]:
            if len(match[1]) < level:
                return match.start()
            position = _closing_quote(text, position, len(match[1]), match[2])[1]
        elif match[0] in "[{(":
            depth += 1
        else:
            depth -= 1
            if depth <= 0:
                return position
    return -1
