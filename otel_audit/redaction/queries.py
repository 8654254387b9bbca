"""Masks secrets in raw query strings and forms, and leaves every other byte as the client sent it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

from otel_audit.redaction.engine import Engine
from otel_audit.redaction.patterns import MASK

__all__ = ["mask_query"]

_SEGMENT: Final = re.compile(r"[^&;]++")
_MAX_ENCODINGS: Final = 4  # how often a value is looked at behind another percent-encoding
_SAFE: Final = "[]/:?=,@ "


def mask_query(raw: str, engine: Engine) -> str:
    """Return ``raw`` with the values of secret names and the secrets in other values masked."""
    if _clean(raw, engine):
        return raw
    return _SEGMENT.sub(lambda match: _segment(match[0], engine), raw)


def _clean(raw: str, engine: Engine, *, names: bool = True) -> bool:
    """Whether there is nothing to mask; with ``names`` a secret's name alone is too much, which is quicker to see."""
    text = unquote_plus(raw)
    for _ in range(_MAX_ENCODINGS):
        if (names and engine.suspects(text)) or engine.mask(text) != text:
            return False
        decoded = unquote(text)
        if decoded == text:
            return True
        text = decoded
    return False


def _segment(segment: str, engine: Engine) -> str:
    key, equals, value = segment.partition("=")
    if equals and engine.names.secret(unquote_plus(key)):
        return f"{key}={MASK}" if value else segment
    whole = f"{key}={MASK}" if equals else MASK
    text = unquote_plus(segment)
    for _ in range(_MAX_ENCODINGS):
        masked = engine.mask(text)
        if masked != text:
            if not _clean(masked, engine, names=False):
                return whole  # there is more behind another encoding
            return masked if text == segment else quote(masked, safe=_SAFE).replace(" ", "+")
        decoded = unquote(text)
        if decoded == text:
            return segment
        text = decoded
    return whole  # nobody needs so many encodings, but to hide something
