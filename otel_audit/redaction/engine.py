"""Masks secrets in one text: by the names of their keys, by their shapes, card numbers, and behind JSON's escapes."""

from __future__ import annotations

import re
from typing import Final

from otel_audit.redaction.encoded import mask_encoded
from otel_audit.redaction.marks import Marker
from otel_audit.redaction.markup import mask_tags
from otel_audit.redaction.messages import mask_messages
from otel_audit.redaction.named import mask_named
from otel_audit.redaction.names import Names, fold
from otel_audit.redaction.pairs import PairMasker
from otel_audit.redaction.patterns import SHAPE_HINT, mask_cards, mask_shapes

__all__ = ["Engine", "Known"]

MAX_SHORT: Final = 300  # characters
_MAX_KNOWN: Final = 4096

_ESCAPE_HINT: Final = re.compile(r"\\u00[2-7]")
_MAX_ESCAPES: Final = 4  # JSON in a JSON string in a JSON string …
_ESCAPE: Final = re.compile(r"(?<!\\)(\\++)u00([2-7][0-9a-fA-F])")


class Known(set[str]):
    """Texts known to have no secret, so that what comes with every request is looked at once. Texts that do have one
    are never kept."""

    def add(self, text: str) -> None:
        """Keep ``text``, if it is short; all the others are forgotten when there are too many."""
        if len(text) <= MAX_SHORT:
            if len(self) >= _MAX_KNOWN:
                self.clear()
            super().add(text)


class Engine:
    """Masks the secrets of a text; immutable and thread-safe."""

    def __init__(self, names: Names, marker: Marker) -> None:
        self.names = names
        self.marker = marker
        self.clean_queries = Known()
        self._clean = Known()
        self._pairs = PairMasker(names, marker)

    def mask(self, text: str, *, json: bool = False, markup: bool = False) -> str:
        """Return ``text`` with its secrets masked; the same object when there are none.

        Args:
            text: any text.
            json: whether it is JSON: then what was a number becomes a string.
            markup: whether it is XML or HTML.
        """
        if text in self._clean:
            return text
        masked = self._mask(text, json=json, markup=markup)
        if "\\" in text and _ESCAPE_HINT.search(text) is not None:
            plain = text
            for _ in range(_MAX_ESCAPES):
                plain, count = _ESCAPE.subn(_unescape, plain)
                if not count:
                    break
            found = self._mask(plain, json=json, markup=markup)
            masked = masked if found == plain else found  # written plainly only where that brings a secret to light
        if masked == text and not markup:
            self._clean.add(text)
        return masked

    def suspects(self, text: str) -> bool:
        """Whether a secret, or a secret's name with or without a value, may stand in ``text``."""
        lower = fold(text)
        return self.names.suspected(lower) or SHAPE_HINT.search(lower) is not None

    def _mask(self, text: str, *, json: bool, markup: bool) -> str:
        lower = fold(text)
        short = len(text) <= MAX_SHORT
        if not short or self.names.suspected(lower):
            if markup:
                text = mask_tags(text, self.names.places(lower), self.names, self.marker)
                lower = fold(text)
            if "value" in lower or "[[" in text:
                text = mask_named(text, lower, self.names, self.marker, json=json)
                lower = fold(text)
            text = self._pairs.mask(text, lower, json=json, markup=markup)
            text = mask_encoded(text, self.names, self.marker, json=json)
        if not short or SHAPE_HINT.search(lower) is not None:
            text = mask_cards(mask_shapes(text, lower, self.marker), self.marker, json=json)
        return mask_messages(text, self.names, self.marker, json=json)


def _unescape(match: re.Match[str]) -> str:
    """Write an escaped ASCII character of JSON, or of JSON in a JSON string, as it is written without need.

    One backslash begins an escape, two begin one in JSON in a JSON string, four one level deeper.
    """
    run, character = len(match[1]), chr(int(match[2], 16))
    if character == '"':
        return "\\" * (2 * run - 1) + character
    if character == "\\":
        return "\\" * (2 * run)
    return character if run & (run - 1) == 0 else "\\" * (run - 1) + character
