"""Which locks the calling thread holds: what garbage collection calls inside of one must not wait for others."""

from __future__ import annotations

from typing import Any

__all__ = ["holds"]


def holds(lock: Any) -> bool:
    """Return whether the calling thread holds ``lock``, a `threading.RLock`.

    The method is one that `threading.Condition` asks of every lock, with and without the C implementation.
    """
    return bool(lock._is_owned())
