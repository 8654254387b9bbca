"""What is stored of a request or response body: its text without secrets, or one line that describes it.

A body is never parsed to be redacted: `pairs` masks values where they stand, so that a cut, broken, deep or
duplicate-keyed document is stored as it came, without its secrets. What cannot be read as text – binary, compressed, of
another charset than it says – is described by type, size and SHA-256, never inflated.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["Body", "MediaType", "decode", "media_type"]

_CHARSET: Final = re.compile(
    r"(?:utf-?(?:8|16|32)(?:[-_]?[lb]e|-sig)?|(?:us-?)?ascii|latin-?1|iso-?8859-?\d{1,2}|iso-?ir-?\d+|(?:windows|cp)-?\d{3,4}"
    r"|koi8-?[rut]|gb\d{4,5}|gbk|big5(?:-?hkscs)?|shift[-_]?jis|s-?jis|euc[-_]?(?:jp|kr)|mac-?roman)\Z",
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(
    r';\s*([\w!#$&+\-.^*]{1,40})\s*=\s*(?:"((?:[^"\\]|\\.){0,300})"|([^\s;"]{0,300}))'
)
_MAX_CACHED: Final = 200


@dataclass(frozen=True, slots=True)
class Body:
    """What is stored of a body, and what was done to it: ``"redacted"``, ``"cut"``, ``"undecoded"``, ``"escaped"``."""

    text: str | None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MediaType:
    """A content type taken apart: its kind for us, its name, its charset and boundary."""

    kind: str  # "json" | "form" | "multipart" | "markup" | "text" | "unknown" | "binary"
    name: str
    charset: str
    boundary: str


def media_type(content_type: str) -> MediaType:
    """Take a Content-Type header apart; whatever it is, the result is usable."""
    return _cached(content_type) if len(content_type) <= _MAX_CACHED else _take_apart(content_type[:1000])


def decode(raw: bytes, charset: str, *, truncated: bool) -> str | None:
    """Return ``raw`` as text; None where it is not the text it claims to be.

    Args:
        raw: the bytes, maybe cut.
        charset: as the client named it; empty: UTF-8, or UTF-16 and UTF-32 where the first bytes say so.
        truncated: whether the last character may be incomplete.
    """
    name = charset or json.detect_encoding(raw[:4])
    if _CHARSET.match(name) is None:
        return None
    try:
        decoder = codecs.getincrementaldecoder(name)("strict")
        return decoder.decode(raw, final=not truncated)
    except (LookupError, UnicodeError):
        return None


def _take_apart(header: str) -> MediaType:
    name = header.partition(";")[0].strip().lower()
    charset = boundary = ""
    for match in _PARAMETER.finditer(header):
        key, value = match[1].lower(), match[2] if match[2] is not None else match[3]
        if key == "charset" and not charset:
            charset = value.strip("'").lower()
        elif key == "boundary" and not boundary:
            boundary = value
    return MediaType(_kind(name), name, charset, boundary)


_cached = lru_cache(maxsize=256)(_take_apart)


def _kind(name: str) -> str:
    main, _, sub = name.partition("/")
    if sub == "json" or sub.endswith(("+json", "json-seq", "ndjson", "jsonl", "jsonlines")):
        return "json"
    if name == "application/x-www-form-urlencoded":
        return "form"
    if name == "multipart/form-data":
        return "multipart"
    if sub in ("xml", "html") or sub.endswith(("+xml", "+html")):
        return "markup"
    if main == "text" or sub in ("javascript", "yaml", "x-yaml", "graphql", "sql", "toml", "problem"):
        return "text"
    return "unknown" if not name else "binary"
