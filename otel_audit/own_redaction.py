"""Calls the site's own redaction: it never raises into a request, and where it fails nothing is stored of the text."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

from otel_audit.edges import errors
from otel_audit.floods import Flood
from otel_audit.options import Redaction
from otel_audit.redaction import MASK, Marker, Redactor

__all__ = ["redactor"]

logger = logging.getLogger("otel_audit.redaction")

_PLACE = "redact.callable"
_flood = Flood()


@lru_cache(maxsize=8)
def redactor(options: Redaction, sensitive: frozenset[str]) -> Redactor:
    """Return the redactor for what ``REDACT`` was read into and the fields marked sensitive, made once."""
    own = None if options.own is None else _guarded(options.own)
    return Redactor((*options.names, *sorted(sensitive)), Marker(dict(options.keys)), own)


def _guarded(own: Callable[[str], object]) -> Callable[[str], str]:
    def call(text: str) -> str:
        try:
            answer = own(text)
        except Exception as error:  # the site's code may raise anything
            _say(f"raised {type(error).__name__}")  # not its message, which may hold the text
            return MASK
        if isinstance(answer, str):
            return answer
        _say(f"returned a {type(answer).__name__}, no text")
        return MASK

    return call


def _say(what: str) -> None:
    errors[_PLACE] += 1
    if count := _flood.due(what):
        logger.error("The callable of OTEL_AUDIT['REDACT'] %s (%d times); the whole text is masked.", what, count)
