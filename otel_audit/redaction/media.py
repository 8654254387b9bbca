"""Reads Content-Type headers, and bytes as the text they claim to be."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["MediaType", "decode", "media_type"]

#: Charsets of text. Python knows more codecs, and some of them are slow or inflate.
_CHARSET: Final = re.compile(
    r"(?:utf-?(?:8|16|32)(?:[-_]?[lb]e|-sig)?|(?:us-?)?ascii|latin-?1|iso-?8859-?\d{1,2}|(?:windows|cp)-?\d{3,4}"
    r"|koi8-?[rut]|gb\d{4,5}|gbk|big5(?:-?hkscs)?|shift[-_]?jis|s-?jis|euc[-_]?(?:jp|kr)|mac-?roman)\Z",
    re.IGNORECASE,
)
_UTF_8: Final = frozenset({"utf-8", "utf8"})
_PARAMETER: Final = re.compile(r';\s*([\w!#$&+\-.^*]{1,40})\s*=\s*(?:"((?:[^"\\]|\\.){0,300})"|([^\s;"]{0,300}))')
_MAX_CACHED: Final = 200  # characters
_MAX_HEADER: Final = 1000


@dataclass(frozen=True, slots=True)
class MediaType:
    """A content type taken apart: its kind for us, its name, its charset and boundary."""

    kind: str  # "json" | "form" | "multipart" | "markup" | "text" | "unknown" | "binary"
    name: str
    charset: str
    boundary: str


def media_type(content_type: str) -> MediaType:
    """Take a Content-Type header apart; whatever it is, the result is usable."""
    if len(content_type) <= _MAX_CACHED:
        return _cached(content_type)
    return _take_apart(content_type[:_MAX_HEADER])


def decode(raw: bytes, charset: str, *, truncated: bool) -> str | None:
    """Return ``raw`` as text; None where it is not the text it claims to be.

    Args:
        raw: the bytes, maybe cut.
        charset: as the client named it, for what is no UTF-8; empty: UTF-16 and UTF-32 where the first bytes say so.
        truncated: whether the last character may be incomplete.
    """
    name = charset or json.detect_encoding(raw[:4])
    if _CHARSET.match(name) is None:
        return None
    try:
        text = raw.decode(name) if not truncated else codecs.getincrementaldecoder(name)().decode(raw)
    except (LookupError, UnicodeError):
        return None
    if name not in _UTF_8 and b"\0" not in raw and (plain := decode(raw, "utf-8", truncated=truncated)) is not None:
        return plain  # read as UTF-16 or EBCDIC it would hide its secrets, and the view may not believe the header
    return text


def _take_apart(header: str) -> MediaType:
    name = header.partition(";")[0].strip().lower()
    charset = boundary = ""
    for match in _PARAMETER.finditer(header):
        key, value = match[1].lower(), match[2] if match[2] is not None else match[3]
        if key == "charset" and not charset:
            charset = value.strip("'").lower()
        elif key == "boundary":
            boundary = value  # the last one counts, as for Django
    return MediaType(_kind(name), name, charset, boundary)


_cached = lru_cache(maxsize=256)(_take_apart)


def _kind(name: str) -> str:
    main, _, sub = name.partition("/")
    if sub == "json" or sub.endswith(("+json", "json-seq", "ndjson", "jsonl", "jsonlines")):
        return "json"
    if name in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return "multipart" if main == "multipart" else "form"
    if sub in ("xml", "html") or sub.endswith(("+xml", "+html")):
        return "markup"
    if main == "text" or sub in ("javascript", "yaml", "x-yaml", "graphql", "sql", "toml"):
        return "text"
    return "unknown" if not name else "binary"
