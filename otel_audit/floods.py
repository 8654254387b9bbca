"""Lets what a client can cause be logged once a minute per key, with counts, so that nobody floods the log."""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import Final

__all__ = ["INTERVAL_S", "Flood"]

INTERVAL_S: Final = 60.0
_MAX_KEYS: Final = 1000


class Flood:
    """Counts by key, and says when it is time to speak of one again."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._spoke_at: dict[str, float] = {}

    def due(self, key: str) -> int:
        """Count one more of ``key``; return how many to speak of now, 0 where the last time is not a minute ago."""
        self._counts[key] += 1
        now = monotonic()
        if now - self._spoke_at.get(key, -INTERVAL_S) < INTERVAL_S:
            return 0
        if len(self._spoke_at) >= _MAX_KEYS:
            self._spoke_at.clear()
        self._spoke_at[key] = now
        return self._counts.pop(key, 1)
