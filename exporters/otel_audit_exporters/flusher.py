"""Carries what was appended to the disk itself, in a thread of its own, so that it also survives a power loss.

One ``fdatasync`` serves everybody who appended before it began (group commit). A dedicated thread, as with a leader
among 64 waiting threads the slowest one in a hundred waited 53 ms. What failed once is never synced again: the kernel
may have dropped the pages and would answer that all is well (https://lwn.net/Articles/752063/).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from otel_audit.locks import starting

__all__ = ["INTERVAL_S", "Flusher"]

INTERVAL_S: Final = 0.1

#: Called with None when the record is on the disk, else with the error.
Durable = Callable[[OSError | None], None]


class Flusher:
    """Syncs one writer's segment.

    Args:
        pause: seconds between a wake-up and the sync; what is appended in the meantime shares it.
        target: returns the number of the last record that was written, and the descriptor of its segment (-1: none).
        failed: called, without any lock, with the descriptor and the error when a sync failed.
    """

    def __init__(
        self, pause: float, target: Callable[[], tuple[int, int]], failed: Callable[[int, OSError], None]
    ) -> None:
        #: Held during a sync: who closes a segment holds it, so that the descriptor stays what it is.
        self.guard = threading.RLock()
        self._pause = pause
        self._target = target
        self._failed = failed
        self._wanted = threading.Event()
        self._stop = threading.Event()
        self._waiting: deque[tuple[int, Durable]] = deque()
        self._durable = 0
        #: Records after the first and up to the second number were in a segment whose sync failed.
        self._broken: tuple[int, int, OSError] | None = None
        self._thread: threading.Thread | None = None

    def want(self) -> None:
        """Ask for a sync of what is written now."""
        if not self._wanted.is_set():
            self._wanted.set()
            if self._thread is None:
                self._start()

    def notify(self, seq: int, durable: Durable) -> None:
        """Call ``durable`` when record number ``seq`` is on the disk, from the flusher's thread or at once."""
        if seq <= self._durable:
            durable(self._error_of(seq))
            return
        self._waiting.append((seq, durable))
        self.want()

    def stop(self) -> None:
        """Sync what is left and end the thread."""
        self._stop.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
        self._sync_or_fail()

    def sync(self) -> tuple[int, OSError | None]:
        """Sync now, in the caller's thread, and tell those who wait; return the descriptor and what went wrong."""
        error = None
        with self.guard:
            seq, fd = self._target()
            try:
                if fd >= 0:
                    os.fdatasync(fd)
            except OSError as raised:
                error = raised
        self._settle(seq, error)
        return fd, error

    def _sync_or_fail(self) -> None:
        fd, error = self.sync()
        if error is not None:
            self._failed(fd, error)

    def _settle(self, seq: int, error: OSError | None) -> None:
        if error is not None:
            self._broken = (self._durable, seq, error)
        self._durable = max(self._durable, seq)  # or as durable as it will ever be
        for _ in range(len(self._waiting)):
            waiting, durable = self._waiting.popleft()
            if waiting <= seq:
                durable(self._error_of(waiting))
            else:
                self._waiting.append((waiting, durable))

    def _error_of(self, seq: int) -> OSError | None:
        if self._broken is not None and self._broken[0] < seq <= self._broken[1]:
            return self._broken[2]
        return None

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="otel-audit-flush", daemon=True)
        try:
            with starting():
                thread.start()
        except RuntimeError:  # the interpreter is shutting down: no thread any more, no second chance either
            self._sync_or_fail()
            self._wanted.clear()
            return
        self._thread = thread

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wanted.wait()
            if self._pause:
                self._stop.wait(self._pause)
            self._wanted.clear()
            self._sync_or_fail()
