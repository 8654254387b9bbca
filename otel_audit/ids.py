"""Record ids: UUIDv7 (RFC 9562, section 5.7), so that ids sort by the time a record began.

Python 3.11 to 3.13 have no ``uuid.uuid7``. The 12 bits after the milliseconds hold their fraction (section 6.2,
method 3): the steps and registrations of one request sort in the order in which they happened.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any
from uuid import UUID

__all__ = ["derived_id", "record_id", "uuid7"]


def record_id(time_ns: int | None = None) -> str:
    """Return a new UUIDv7 as text, for a record that began at ``time_ns`` (Unix nanoseconds, default now)."""
    return _uuid7(time.time_ns() if time_ns is None else time_ns, os.urandom(8))


def derived_id(time_ns: int, *parts: str) -> str:
    """Return the same UUIDv7 for the same ``time_ns`` and ``parts``: the idempotency key of what came without one."""
    return _uuid7(time_ns, hashlib.sha256("\0".join(parts).encode()).digest()[:8])


def uuid7(value: Any) -> str | None:
    """Return a record id in its canonical form; None where ``value`` is no UUIDv7."""
    if not isinstance(value, str):
        return None
    try:
        parsed = UUID(value)
    except ValueError:
        return None
    return str(parsed) if parsed.version == 7 else None


def _uuid7(time_ns: int, random: bytes) -> str:
    milliseconds, rest = divmod(time_ns, 1_000_000)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= (0x7 << 76) | ((rest * 4096 // 1_000_000) << 64)
    value |= (0x2 << 62) | (int.from_bytes(random, "big") >> 2)
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
