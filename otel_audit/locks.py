"""Which locks the calling thread holds: what garbage collection calls inside of one must not wait for others.

Nor in a thread for which one that may hold locks of ours waits: until it has said that it runs, or has done its work.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["holds", "is_waited_for_here", "starting", "waited_for"]

#: Who starts a thread of ours now, and which threads work for one that waits; set operations are atomic.
_starting: Final[set[object]] = set()
_waited_for: Final[set[int]] = set()


def holds(*locks: Any) -> bool:
    """Return whether the calling thread holds one of ``locks``, each a `threading.RLock`.

    The method is one that `threading.Condition` asks of every lock, with and without the C implementation.
    """
    for lock in locks:  # noqa: SIM110  # any() takes twice as long, and this is asked in every request
        if lock._is_owned():
            return True
    return False


@contextmanager
def starting() -> Iterator[None]:
    """Start a thread inside the block: `threading.Thread.start` waits until the new thread says that it runs."""
    mark = object()
    _starting.add(mark)
    try:
        yield
    finally:
        _starting.discard(mark)


@contextmanager
def waited_for() -> Iterator[None]:
    """Do work for which another thread waits inside the block."""
    here = threading.get_ident()
    _waited_for.add(here)
    try:
        yield
    finally:
        _waited_for.discard(here)


def is_waited_for_here() -> bool:
    """Return whether another thread may wait for the calling one, which must not wait for it then.

    A thread that has not said yet that it runs is none that `threading` has made, as far as that knows. One of the
    site's that really is none may be taken for it in that moment: our thread delivers what it records then.
    """
    if not _starting and not _waited_for:
        return False
    here = threading.get_ident()
    if here in _waited_for:
        return True
    known = threading._active.get(here) if _starting else here  # type: ignore[attr-defined]  # `enumerate` takes a lock
    return known is None or isinstance(known, threading._DummyThread)
