"""Record ids: UUIDv7 (RFC 9562, section 5.7), so that ids sort by the time a record began.

Python 3.11 to 3.13 have no ``uuid.uuid7``.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid

__all__ = ["derived_id", "record_id"]


def record_id(time_ns: int | None = None) -> str:
    """Return a new UUIDv7 as text, for a record that began at ``time_ns`` (Unix nanoseconds, default now)."""
    return _uuid7(time.time_ns() if time_ns is None else time_ns, os.urandom(10))


def derived_id(time_ns: int, *parts: str) -> str:
    """Return the same UUIDv7 for the same ``time_ns`` and ``parts``: the idempotency key of what came without one."""
    return _uuid7(time_ns, hashlib.sha256("\0".join(parts).encode()).digest()[:10])


def _uuid7(time_ns: int, random: bytes) -> str:
    milliseconds = (time_ns // 1_000_000) & 0xFFFF_FFFF_FFFF
    value = (milliseconds << 80) | int.from_bytes(random, "big")
    value &= ~((0xF << 76) | (0x3 << 62))
    value |= (0x7 << 76) | (0x2 << 62)
    return str(uuid.UUID(int=value))
