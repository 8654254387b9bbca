"""Text that any of the databases can store, and cuts that say what was cut.

PostgreSQL refuses NUL in text, all three databases refuse lone surrogates.
"""

from __future__ import annotations

import re

__all__ = ["cut", "storable"]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return ``text`` with NUL and lone surrogates escaped as ``\\x00`` and ``\\udc80``; the same object when clean."""
    if _UNSTORABLE.search(text) is None:
        return text
    return _UNSTORABLE.sub(_escape, text)


def cut(text: str, limit: int) -> str:
    """Return the first ``limit`` characters of ``text``."""
    return text if len(text) <= limit else text[:limit]


def _escape(match: re.Match[str]) -> str:
    character = ord(match[0])
    return f"\\x{character:02x}" if character < 0x100 else f"\\u{character:04x}"
