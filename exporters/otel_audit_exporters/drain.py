"""Brings what lies in the spool into its sink: in the background, in batches, for as long as it takes.

One drainer per spool directory works, the holder of a file lock, which the kernel gives up when its process
dies; the others look once a second whether it is free. The holder reads the segments of living and dead
processes alike. It goes on after everything that can fail: a database that is away is asked again with
growing pauses and without end, a record that cannot be stored goes to quarantine, damage in a file too. A
position moves only after the commit, so that a crash repeats and never skips; repeating is harmless as the
sink inserts each record once.

Each sink has a drainer of its own, with its own lock, thread and positions, so that none waits for another. The
database's tells of damage and gaps. A segment goes when every sink is done with it; see
`otel_audit_exporters.retirement`.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otel_audit.exceptions import SpoolError
from otel_audit.locks import starting
from otel_audit_exporters import quarantine
from otel_audit_exporters.accounts import DATABASE, pending, position_path, replace_file
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.database import answer_in_time, close_own_connection, own_connection
from otel_audit_exporters.directory import directory_problem
from otel_audit_exporters.retirement import Retirement
from otel_audit_exporters.segments import SUFFIX
from otel_audit_exporters.self_metrics import count_dropped, count_quarantined, measured_export
from otel_audit_exporters.tailing import BATCH_RECORDS, Tailer, Take
from otel_audit_exporters.writer import Outcome, RetryLaterError

__all__ = ["Drainer", "pending"]

logger = logging.getLogger("otel_audit.delivery")

#: With these a row is there within 100 ms unless many are, and a dead holder is replaced within 2 s.
POLL_S: Final = 0.05
#: After a batch of so many records the next look waits for so many polls: the larger a batch, the less often it takes
#: the interpreter from the requests of this process.
BUSY_RECORDS: Final = 10
BUSY_POLLS: Final = 5
TAKE_OVER_S: Final = 1.0
#: How often who waits for the thread looks whether it is done.
WAIT_S: Final = 0.01
IDLE_CLOSE_S: Final = 5.0
BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 15.0
#: A segment without its name yet is under way; after this time its writer is dead.
ABANDONED_S: Final = 60.0
RESERVE_BYTES: Final = 64 * 1024

_LOCK_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Drainer:
    """Delivers the records of one spool directory to one sink.

    Args:
        directory: the spool directory.
        fingerprint: only segments of this target are touched.
        deliver: stores the JSON texts of records; raises `RetryLaterError` when the sink takes nothing now.
        sink: name of the sink; each has its own lock and its own positions.
        sinks: all sinks that must be done with a segment before it is deleted.
        database: alias for which the thread uses a connection of its own.
        poll: seconds between two looks at a spool in which nothing new was.
        limit: bytes that the spool may hold; None: there is room for ever.
    """

    def __init__(
        self,
        directory: Path,
        fingerprint: str,
        deliver: Callable[[Sequence[bytes]], Outcome],
        *,
        sink: str = DATABASE,
        sinks: Sequence[str] = (DATABASE,),
        database: str | None = None,
        poll: float | None = None,
        limit: int | None = None,
    ) -> None:
        self.directory = directory
        self.fingerprint = fingerprint
        self._deliver = deliver
        self._sink = sink
        self._retirement = Retirement(directory, fingerprint, sink, sinks, limit)
        self._keeps_books = sink == DATABASE
        self._database = database
        self._poll = POLL_S if poll is None else poll
        self._tailer = Tailer(directory, fingerprint, sink)
        self._thread: threading.Thread | None = None
        self._thread_name = "otel-audit-drain" if self._keeps_books else f"otel-audit-drain-{sink}"
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._work = threading.Lock()
        self._lock_fd = -1
        self._failures = 0
        _drainers.add(self)

    # ── life of the thread ──────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start the background thread, once.

        Raises:
            SpoolError: the directory cannot be used; the message says how to fix it.
        """
        problem = directory_problem(self.directory)
        if problem is not None:
            raise SpoolError(problem)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._thread_name, daemon=True)
            with starting():
                self._thread.start()

    def wake(self) -> None:
        """Look at the spool now instead of at the next poll."""
        self._wake.set()

    def ask_to_stop(self) -> None:
        """Ask the thread to end after its batch."""
        self._stop.set()
        self._wake.set()

    def stop(self, timeout: float) -> int:
        """Ask the thread to end after its batch, wait ``timeout`` seconds at most; return how many records are left."""
        self.ask_to_stop()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                logger.warning("The audit drain did not end within %.1f s; its batch is repeated by the next.", timeout)
        elif self._work.acquire(timeout=timeout):  # else who works here without a thread gives it up
            self._give_up_lock()
            self._work.release()
        return self.left()

    def run_until_empty(self, timeout: float) -> int:
        """Deliver what is in the spool, for ``timeout`` seconds at most; return how many records are left.

        With the thread running, here or in another process, this waits for it; else the caller's thread does the work.
        """
        if threading.current_thread() is self._thread:
            return self.left()  # a receiver of our signal flushes: the thread cannot wait for itself
        deadline = time.monotonic() + timeout
        if self.is_running:
            while not self._tailer.is_empty() and (left := deadline - time.monotonic()) > 0:
                self.wake()
                time.sleep(min(left, WAIT_S))
        else:
            with self._own_connection():
                self._drain_here(deadline)
        return self.left()

    @property
    def is_running(self) -> bool:
        """Whether the thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_holder(self) -> bool:
        """Whether this drainer is the one of the directory that works."""
        return self._lock_fd >= 0

    def left(self) -> int:
        """Return how many records of this target the sink has not got yet."""
        return pending(self.directory, self.fingerprint, self._sink)["pending"]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._own_connection():
                    self._loop()
            except Exception as error:  # the edge of the thread: even a wrong alias must not end it
                raise_alarm("drain", 1, error)
                self._stop.wait(BACKOFF_MAX_S)
        self._give_up_lock()

    def _loop(self) -> None:
        used_at = time.monotonic()
        while not self._stop.is_set():
            self._wake.clear()
            if self._stop.is_set():
                return  # asked between the two lines before: the wake-up is gone
            with self._work:
                pause, moved = self._step()
            if moved:
                used_at = time.monotonic()
            elif self._database is not None and time.monotonic() - used_at > IDLE_CLOSE_S:
                close_own_connection(self._database)
                used_at = time.monotonic()
            if pause:
                # A wake-up ends the wait for new records, never the wait for a sink in trouble.
                (self._stop if self._failures else self._wake).wait(pause)

    def _step(self) -> tuple[float, int]:
        """Work once; return how long to pause and how many records moved."""
        try:
            if not self._take_lock():
                return TAKE_OVER_S, 0
            moved = self.drain_once()
        except Exception as error:  # the edge of the thread: it outlives whatever went wrong
            self._failures += 1
            self._tailer.forget()  # whatever was done, and not noted, is looked at again
            expected = isinstance(error, RetryLaterError)
            if not expected:
                logger.debug("The audit drain failed", exc_info=error)
            raise_alarm(error.reason if isinstance(error, RetryLaterError) else "drain", 1, error)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._reserve_path().unlink(missing_ok=True)
            if self._database is not None:
                close_own_connection(self._database)
            return max(self._backoff(), error.after_s if isinstance(error, RetryLaterError) else 0.0), 0
        self._failures = 0
        # Only a full batch says that more is waiting. Looking again at once would take a busy site's records one by
        # one, at ten times the cost of a record in a batch, and take that time from its requests.
        if moved >= BATCH_RECORDS:
            return 0.0, moved
        return self._poll * (BUSY_POLLS if moved >= BUSY_RECORDS else 1), moved

    def _backoff(self) -> float:
        longest: float = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 1, 16))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  # spreads the retries of many hosts, hides nothing

    @contextmanager
    def _own_connection(self) -> Iterator[None]:
        if self._database is None:
            yield
        else:
            with own_connection(self._database):
                yield

    # ── the lock ────────────────────────────────────────────────────────────────────────────────

    def _take_lock(self) -> bool:
        if self._lock_fd >= 0:
            if os.fstat(self._lock_fd).st_nlink:
                return True
            self._give_up_lock()  # somebody removed the directory under us; another may hold the new file
        fd = os.open(self.directory / f"drain-{self.fingerprint}-{self._sink}.lock", _LOCK_FLAGS, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock_fd = fd
        self._tailer.forget()
        self._tidy_up()
        self._reserve()
        return True

    def _give_up_lock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _drain_here(self, deadline: float) -> None:
        """Work in the caller's thread until nothing is left or the time is over."""
        with self._work:
            try:
                while True:
                    pause, moved = self._step()
                    left = deadline - time.monotonic()
                    if left <= 0 or (not moved and not self._failures and self._tailer.is_empty()):
                        return
                    if pause:
                        time.sleep(min(left, pause))
            finally:
                self._give_up_lock()

    # ── one batch ───────────────────────────────────────────────────────────────────────────────

    def drain_once(self) -> int:
        """Deliver one batch; return how many records moved. The caller holds the directory's lock.

        Raises:
            RetryLaterError: the sink takes nothing now; no position has moved.
        """
        takes = self._tailer.collect()
        frames = [(take, found) for take in takes for found in take.frames]
        outcome = self._hand_over([found.payload for _, found in frames]) if frames else Outcome()
        # Damage lies in the file, whoever reads it: it is put aside and told of once.
        aside = [entry for take in takes for entry in take.damage if self._keeps_books]
        for rejection in outcome.rejections:
            take, found = frames[rejection.index]
            take.position.quarantined += 1
            aside.append(self._tailer.entry(take.tail, rejection.reason, rejection.error, found.offset, found.payload))
        for take in takes:
            refused = sum(frames[rejection.index][0] is take for rejection in outcome.rejections)
            take.position.stored += len(take.frames) - refused
        quarantine.add(self.directory, self.fingerprint, aside)
        for take in takes:
            self._move_on(take)
        if outcome.rejections:
            count_quarantined(self._sink, [rejection.reason for rejection in outcome.rejections])
        for entry in aside:
            raise_alarm(entry.reason, 1, f"{entry.segment} at {entry.offset}: {entry.error}")
        return len(frames) + len(aside)

    def _hand_over(self, payloads: list[bytes]) -> Outcome:
        with measured_export(self._sink) as measure:
            if self._database is None:
                outcome = self._deliver(payloads)
            else:
                with answer_in_time(self._database):
                    outcome = self._deliver(payloads)
            measure.exported = outcome.stored
        return outcome

    def _move_on(self, take: Take) -> None:
        """Move the position behind what is stored; take a finished segment into the books."""
        tail = take.tail
        if take.missing and self._keeps_books:
            count_dropped("gap", take.missing)
            raise_alarm("gap", take.missing, f"{tail.path.name}: records are missing before {take.position.next_seq}")
        if take.finished:
            take.position.done = True
        if take.position != tail.position:
            take.position.save(tail.path, self._sink)
            tail.position = take.position
            if not (self._keeps_books or tail.path.exists()):
                position_path(tail.path, self._sink).unlink(missing_ok=True)  # given up in the meantime
                return
        if take.finished and self._retirement.look_at(tail):
            self._reserve()

    def _reserve(self) -> None:
        """Keep some blocks, so that on a full disk positions and books can still be written, and segments go."""
        path = self._reserve_path()
        if not path.exists():
            try:
                replace_file(path, bytes(RESERVE_BYTES))
            except OSError as error:
                logger.warning("No space can be reserved in the audit spool: %s", error)

    def _reserve_path(self) -> Path:
        return self.directory / f"drain-{self.fingerprint}-{self._sink}.reserve"

    def _tidy_up(self) -> None:
        """Remove what an earlier holder or a writer left when it died in the middle of something."""
        self._retirement.delete()
        for path in self.directory.glob(f".*{self.fingerprint}{SUFFIX}"):
            try:
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()
            except FileNotFoundError:  # it has got its name in the meantime
                continue


#: A forked child inherits the lock's descriptor: kept open there, the lock would outlive its holder.
_drainers: weakref.WeakSet[Drainer] = weakref.WeakSet()


def _let_go_after_fork() -> None:
    for drainer in list(_drainers):
        drainer._give_up_lock()
        drainer._thread = None
        drainer._work = threading.Lock()  # the parent's thread may have held it


os.register_at_fork(after_in_child=_let_go_after_fork)
