"""Masks secrets in one text: by the names of their keys, by their shapes, card numbers, and behind JSON's escapes."""

from __future__ import annotations

import re
from typing import Final

from otel_audit.redaction.markup import mask_tags
from otel_audit.redaction.names import Names, fold
from otel_audit.redaction.pairs import PairMasker
from otel_audit.redaction.patterns import mask_cards, mask_shapes

__all__ = ["Engine"]

_ESCAPE_HINT: Final = re.compile(r"\\u00[2-7]")
_MAX_ESCAPES: Final = 4  # JSON in a JSON string in a JSON string …
_ESCAPE: Final = re.compile(r"(?<!\\)(\\++)u00([2-7][0-9a-fA-F])")


class Engine:
    """Masks the secrets of a text; immutable and thread-safe."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self._pairs = PairMasker(names)

    def mask(self, text: str, *, json: bool = False, markup: bool = False) -> str:
        """Return ``text`` with its secrets masked; the same object when there are none.

        Args:
            text: any text.
            json: whether it is JSON: then what was a number becomes a string.
            markup: whether it is XML or HTML.
        """
        masked = self._mask(text, json=json, markup=markup)
        if _ESCAPE_HINT.search(text) is None:
            return masked
        plain = text
        for _ in range(_MAX_ESCAPES):
            plain, count = _ESCAPE.subn(_unescape, plain)
            if not count:
                break
        found = self._mask(plain, json=json, markup=markup)
        return masked if found == plain else found  # plainly written only where that brings a secret to light

    def suspects(self, text: str) -> bool:
        """Whether a secret's name may stand in ``text``, with or without a value."""
        return bool(self.names.places(fold(text)))

    def _mask(self, text: str, *, json: bool, markup: bool) -> str:
        if markup:
            text = mask_tags(text, self.names.places(fold(text)), self.names)
        lower = fold(text)
        masked = self._pairs.mask(text, lower, json=json, markup=markup)
        masked = mask_shapes(masked, lower)
        return mask_cards(masked, json=json)


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
