"""Masks secrets in raw query strings and forms, and leaves every other byte as the client sent it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

from otel_audit.redaction.callbacks import mask_callbacks, secret_in_query
from otel_audit.redaction.engine import Engine

__all__ = ["mask_query"]

_SEGMENT: Final = re.compile(r"[^&;]++")
_MAX_ENCODINGS: Final = 4  # how often a value is looked at behind another percent-encoding
_SAFE: Final = "[]/:?=,@ "


def mask_query(raw: str, engine: Engine, path: str = "") -> str:
    """Return ``raw`` with the values of secret names and the secrets in other values masked.

    Args:
        raw: a query string or form.
        engine: masks what stands in a value.
        path: where it was sent to; empty where that is not known.
    """
    if not raw:
        return raw
    if (secret := secret_in_query(unquote(raw) if "%" in raw else raw, path)) or "?" in raw:
        raw = mask_callbacks(raw, raw.lower(), engine.marker)
        return _SEGMENT.sub(lambda match: _segment(match[0], engine, secret), raw)
    if raw in engine.clean_queries:
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


def _segment(segment: str, engine: Engine, secret: frozenset[str] = frozenset()) -> str:
    key, equals, value = segment.partition("=")
    name = unquote_plus(key)
    if equals and (engine.names.secret(name) or name.lower() in secret):
        return f"{key}={engine.marker.mark(unquote_plus(value))}" if value else segment
    text = unquote_plus(segment)
    for _ in range(_MAX_ENCODINGS):
        masked = engine.mask(text)
        if masked != text:
            if _more(masked, engine):
                return _whole(key, equals, value, engine)
            return masked if text == segment else quote(masked, safe=_SAFE).replace(" ", "+")
        decoded = unquote(text)
        if decoded == text:
            return segment
        text = decoded
    return _whole(key, equals, value, engine)  # nobody needs so many encodings, but to hide something


def _whole(key: str, equals: str, value: str, engine: Engine) -> str:
    """Return a segment of which nothing but the key is kept, if it has one."""
    return f"{key}={engine.marker.mark(unquote_plus(value))}" if equals else engine.marker.mark(unquote_plus(key))


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
