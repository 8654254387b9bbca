"""Finds ``key: value`` wherever a secret's key stands and masks the value where it stands.

JSON, JSON in JSON strings, ``repr`` of a dict, query strings, headers, log lines, XML elements are one to it. Nothing
is parsed: text that is cut, nested 100,000 levels deep or no JSON at all is treated alike, duplicate keys are both
seen, and everything else stays as it was, byte for byte. The work is linear in the text: only around the places that
`Names.places` finds a few patterns are tried, each of which takes what it repeats for good.
"""

from __future__ import annotations

import re
from typing import Final

from otel_audit.redaction.marks import Marker
from otel_audit.redaction.names import Names
from otel_audit.redaction.values import Span, Values

__all__ = ["PairMasker"]

_MAX_KEY: Final = 100  # characters to the left of a place
_MAX_NAME: Final = 200
_MAX_ELEMENT: Final = 8192  # characters of an element's text where the document is no markup

#: The rest of a key from inside it, marks that belong to its letters and letters that JSON has escaped included.
_REST: Final = r"(?:[\w.\-\[\]%$@\u0300-\u036f]++|\\++u(?!00[2-7])[0-9a-fA-F]{4})*+"
#: From inside a key to behind the separator: the rest of the key (1), its closing quote (2), the separator (3).
#: PostgreSQL names a duplicate as ``Key (token)=(value)``, a ``repr`` of headers has ``(b'authorization', b'…')``.
_AFTER: Final = re.compile(
    rf"({_REST}(?:(?<=\w) (?:id|number|no|key|code)\b)?+)"
    r"(?:"
    r"(\\*+[\"'])(?:\s|\\++[nrt])*+(=>|=(?![=~])|:=|:(?!:)|,(?=\s*+b?[\"']))(?:\s|\\++[nrt])*+"
    r"|()[ \t]*+(=>|=(?![=~])|:=|:(?!:|//))[ \t]*+"
    r"|()((?:,[\w, ]{0,100}+)?+\)=(?=\())"
    r")?+",
    re.IGNORECASE,
)
#: The same for the common case of JSON, with the value (2): two strings, neither inside another.
_JSON_PAIR: Final = re.compile(rf'({_REST})"\s*+:\s*+"((?:[^"\\]++|\\.)++)"', re.DOTALL)
_SPACED: Final = re.compile(r"[^\"'\n\\=:,]{1,80}+(?=\\*+[\"'])")
_TUPLE: Final = re.compile(r"\(b?\Z")
_LINE_START: Final = re.compile(r"(?:\A|\n)[ \t\-]*+\Z")
_HEADER: Final = re.compile(r"(?:http|proxy|set|[^a-z])*+(?:authorization|cookie)2?\Z", re.IGNORECASE)
_TAG_REST: Final = re.compile(r"[^<>]{0,1000}+>")
_PREFIX: Final = re.compile(r"<[\w.\-]{1,40}:\Z")
_KEY_PUNCTUATION: Final = frozenset("_.-[]%$@")


class _Source:
    """A text and what is known of it."""

    def __init__(self, text: str, lower: str, marker: Marker, *, json: bool, markup: bool) -> None:
        self.text = text
        self.lower = lower
        self.markup = markup
        self.has_tags = "<" in text
        self.values = Values(text, marker, json=json)
        self._unclosed = ("", 0)

    def closing_tag(self, name: str, position: int) -> int:
        """Return where the element ``name`` ends whose text begins at ``position``; -1 where that is unknown.

        Where one was looked for in vain is not searched again.
        """
        tag = "</" + name
        start = max(position, self._unclosed[1] - len(tag)) if self._unclosed[0] == tag else position
        limit = len(self.text) if self.markup else position + _MAX_ELEMENT
        close = self.lower.find(tag, start, limit)
        if close < 0 and self.markup:
            return len(self.text)
        if close < 0:
            self._unclosed = (tag, limit)
        return close


class PairMasker:
    """Masks the values of secret keys in text; immutable and thread-safe."""

    def __init__(self, names: Names, marker: Marker) -> None:
        self._names = names
        self._marker = marker

    def mask(self, text: str, lower: str, *, json: bool = False, markup: bool = False) -> str:
        """Return ``text`` with the values of secret keys masked.

        Args:
            text: any text.
            lower: `names.fold` of it.
            json: whether it is JSON, where what has no quotes of its own is inside a string, or a number.
            markup: whether it is XML or HTML, where an element that does not end is masked to the end of the text.
        """
        places = self._names.places(lower)
        if not places:
            return text
        source = _Source(text, lower, self._marker, json=json, markup=markup)
        kept: list[str] = []
        done = checked = 0
        for place in places:
            if place < checked:
                continue
            if json and (pair := _JSON_PAIR.match(text, place)) is not None:
                checked = pair.end(1)
                if self._is_json_key(text, place, checked, done):
                    kept += (text[done : pair.start(2)], self._marker.mark(pair[2]))
                    done = checked = pair.end(2)
                continue
            after = _AFTER.match(text, place)
            if after is None:  # pragma: no cover  # it matches the empty string too
                continue
            checked = after.end(1)
            span = self._span(source, place, after, done)
            if span is not None:
                kept += (text[done : span.start], span.mask)
                done = span.end
                checked = max(checked, done)
        return "".join((*kept, text[done:])) if kept else text

    def _is_json_key(self, text: str, place: int, end: int, floor: int) -> bool:
        start = text.rfind('"', max(floor, place - _MAX_KEY), place) + 1
        return self._names.secret(text[start or _left(text, place, floor) : end])

    def _span(self, source: _Source, place: int, after: re.Match[str], floor: int) -> Span | None:
        """Return the value whose key contains ``place``; None where there is no value or no secret."""
        text, end = source.text, after.end(1)
        if after.end() == end:
            if source.has_tags and (element := self._element(source, _left(text, place, floor), end)) is not None:
                return element
            spaced = _SPACED.match(text, end)
            after_quote = None if spaced is None else _AFTER.match(text, spaced.end())
            if spaced is None or after_quote is None or not after_quote[2]:
                return None
            after, end = after_quote, spaced.end()
        quote = after[2] or ""
        start = _quoted_left(text, place, floor, quote) if quote else _left(text, place, floor)
        if not self._secret(text, start, end, floor, quoted=bool(quote)):
            return None
        if after[3] == "," and _TUPLE.search(text, max(0, start - len(quote) - 2), start - len(quote)) is None:
            return None
        if not quote:
            return self._unquoted(source, start, end, after)
        return source.values.value(after.end(), quote, same_line="\n" not in text[after.end(2) : after.end()])

    def _unquoted(self, source: _Source, start: int, end: int, after: re.Match[str]) -> Span | None:
        """Return the value of a key without quotes: a header's line, words in a line of their own, or one word."""
        colon = after[5] == ":"
        if colon and _HEADER.match(source.text, start, end):
            return source.values.header_line(after.end())
        words = colon and _LINE_START.search(source.text, max(0, start - _MAX_KEY), start) is not None
        return source.values.value(after.end(), "", words=words)

    def _secret(self, text: str, start: int, end: int, floor: int, *, quoted: bool) -> bool:
        if self._names.secret(text[start : min(end, start + _MAX_NAME)]):
            return True
        if quoted or start <= floor or text[start - 1] != " ":
            return False
        return self._names.secret(text[_left(text, start - 1, floor) : min(end, start + _MAX_NAME)])

    def _element(self, source: _Source, start: int, end: int) -> Span | None:
        """Return the content of the element of this name; None where it is no element."""
        text = source.text
        tag = start - 1
        if text[tag:start] == ":" and (prefix := _PREFIX.search(text, max(0, start - 42), start)) is not None:
            tag = prefix.start()
        if tag < 0 or text[tag] != "<":
            return None
        rest = _TAG_REST.match(text, end)
        if rest is None or rest[0].endswith("/>") or not self._names.secret(text[start : min(end, start + _MAX_NAME)]):
            return None
        begin = rest.end()
        close = source.closing_tag(source.lower[tag + 1 : end], begin)
        return Span(begin, close, self._marker.mark(text[begin:close])) if close > begin else None


def _left(text: str, place: int, floor: int) -> int:
    """Return where the word begins that contains ``place``."""
    limit = max(floor, place - _MAX_KEY)
    while place > limit and (text[place - 1].isalnum() or text[place - 1] in _KEY_PUNCTUATION):
        place -= 1
    return place


def _quoted_left(text: str, place: int, floor: int, quote: str) -> int:
    """Return where the key begins that ends with ``quote``."""
    opening = text.rfind(quote, max(floor, place - _MAX_KEY), place)
    return _left(text, place, floor) if opening < 0 else opening + len(quote)
