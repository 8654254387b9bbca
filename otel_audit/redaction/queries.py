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
    if not raw or raw in engine.clean_queries:
        return raw
    masked = raw
    if not _clean(raw, engine):
        masked = _SEGMENT.sub(lambda match: _segment(match[0], engine), raw)
    if masked == raw:
        engine.clean_queries.add(raw)
    return masked


def _clean(raw: str, engine: Engine) -> bool:
    """Whether there is nothing to mask: one look at the whole, for most query strings the only one."""
    text = unquote_plus(raw)
    for _ in range(_MAX_ENCODINGS):
        if engine.suspects(text):
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
            if _more(masked, engine):
                return whole
            return masked if text == segment else quote(masked, safe=_SAFE).replace(" ", "+")
        decoded = unquote(text)
        if decoded == text:
            return segment
        text = decoded
    return whole  # nobody needs so many encodings, but to hide something


def _more(text: str, engine: Engine) -> bool:
    """Whether there is a secret behind another encoding of a text without its plain ones."""
    for _ in range(_MAX_ENCODINGS):
        decoded = unquote(text)
        if decoded == text:
            return False
        if engine.mask(decoded) != decoded:
            return True
        text = decoded
    return True
