"""This process's drainers: started when the spool is used, and anew when the settings name another spool."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from otel_audit.conf import conf
from otel_audit.exceptions import SpoolError
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.directory import directory_problem
from otel_audit_exporters.sinks import Sinks
from otel_audit_exporters.writer import Outcome

__all__ = ["Draining", "Target", "spool_target"]

#: A spool directory that cannot be drained is tried again after this many seconds.
RETRY_S: Final = 1.0

#: What names a spool: place, database, when it is synced, the collector, and who drains it.
Target = tuple[Path | None, str, str, Mapping[str, Any] | None, str]


class Draining:
    """Has the drainers of one spool. ``store`` is the audit database's sink."""

    def __init__(self, store: Callable[[Sequence[bytes]], Outcome]) -> None:
        #: The drainers that run; None before the first start.
        self.sinks: Sinks | None = None
        #: Held while they start. Re-entrant, as a signal handler may record something while its own thread holds it.
        self.lock = threading.RLock()
        self._store = store
        #: The spool that they run on; None where they do not.
        self._target: Target | None = None
        self._not_before = 0.0

    def begin(self) -> None:
        """Start them, unless they run already on the spool of now. A directory that cannot be used is an alarm."""
        problem: SpoolError | None = None
        with self.lock:
            if not self._is_stale() or time.monotonic() < self._not_before:
                return
            if self.sinks is not None:
                self.sinks.stop(1.0)
                self.sinks = self._target = None
            sinks = Sinks(self._store)
            try:
                sinks.start()
            except SpoolError as error:
                self._not_before = time.monotonic() + RETRY_S
                problem = error
            else:
                self.sinks, self._target = sinks, spool_target()
        if problem is not None:
            raise_alarm("spool", 0, problem)  # a receiver may record something: outside of the lock

    def keep_on(self, target: Target) -> None:
        """See to it that they run on ``target``, the spool that was just appended to.

        For plain spans, under synchronous delivery, and where the directory could not be used before.
        """
        if self._target != target and target[-1] == "thread":
            self.begin()

    def drain(self, timeout: float) -> int:
        """Bring in what lies in the spool, ``timeout`` seconds at most; return how many records are left.

        Raises:
            SpoolError: the directory is not there, or cannot be used or read: nobody knows how many are.
        """
        if not os.path.lexists(conf.spool_dir):
            raise SpoolError(
                f"The spool directory {conf.spool_dir} is not there. If it was, mount it or put it back: what waits in "
                "it is stored then."
            )
        try:
            if self.sinks is not None and not self._is_stale():
                return self.sinks.run_until_empty(timeout)
            if (problem := directory_problem(conf.spool_dir)) is not None:
                raise SpoolError(problem)
            sinks = Sinks(self._store)
            try:
                return sinks.run_until_empty(timeout)
            finally:
                sinks.stop(0.0)
        except OSError as error:
            raise SpoolError(
                f"The spool {conf.spool_dir} cannot be read: {error.strerror}. "
                "Check the disk, and how many files may be open."
            ) from error

    def end(self, timeout: float) -> int:
        """Give them ``timeout`` seconds to drain, and as many to stop; return how many records are left."""
        if self.sinks is None:
            return 0
        self.sinks.run_until_empty(timeout)
        return self.sinks.stop(timeout)

    def _is_stale(self) -> bool:
        return self.sinks is None or self._target != spool_target()


def spool_target() -> Target:
    """Return what names the spool of now: its place, the database, the collector. Cheap; asked per request."""
    now = conf.now()
    return now.SPOOL_DIR, conf.fingerprint_by(now), now.FSYNC, now.OTLP, now.DRAIN
