"""Text that any of the databases can store, cuts that say what was cut, and text that shows what it is.

PostgreSQL refuses NUL in text, all three databases refuse lone surrogates.
"""

from __future__ import annotations

import re

__all__ = ["cut", "storable", "unturned"]

#: Controls that reorder what follows, so that "evil" reads "live"; joiners, which scripts need, are none of them.
_TURNS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return ``text`` with NUL and lone surrogates escaped as ``\\x00`` and ``\\udc80``; the same object when clean."""
    if _UNSTORABLE.search(text) is None:
        return text
    return _UNSTORABLE.sub(_escape, text)


def cut(text: str, limit: int) -> str:
    """Return the first ``limit`` characters of ``text``."""
    return text if len(text) <= limit else text[:limit]


def unturned(text: str) -> str:
    """Return ``text`` with controls of the writing direction as ``[U+202E]``; the same object when there is none."""
    return text if text.isascii() else _TURNS.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)


def _escape(match: re.Match[str]) -> str:
    character = ord(match[0])
    return f"\\x{character:02x}" if character < 0x100 else f"\\u{character:04x}"
