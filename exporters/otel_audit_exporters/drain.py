"""Brings what lies in the spool into its sink: in the background, in batches, for as long as it takes.

One drainer per spool directory works, the holder of a file lock, which the kernel gives up when its process
dies; the others look once a second whether it is free. The holder reads the segments of living and dead
processes alike. It goes on after everything that can fail: a database that is away is asked again with
growing pauses and without end, a record that cannot be stored goes to quarantine, damage in a file too. A
position moves only after the commit, so that a crash repeats and never skips; repeating is harmless as the
sink inserts each record once.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from otel_audit.exceptions import SpoolError
from otel_audit_exporters import quarantine
from otel_audit_exporters.accounts import Position, load_accounts, locked, position_path
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.database import close_own_connection, own_connection
from otel_audit_exporters.quarantine import Entry
from otel_audit_exporters.segments import CLOSE, FORMAT_VERSION, RECORD, Frame, Name, Segment, segments
from otel_audit_exporters.spool import directory_problem
from otel_audit_exporters.writer import Outcome, RetryLaterError

__all__ = ["Drainer", "pending"]

logger = logging.getLogger("otel_audit.delivery")

BATCH_RECORDS: Final = 500
BATCH_BYTES: Final = 4 * 1024 * 1024
#: With these a row is there within 100 ms, and a dead holder is replaced within 2 s.
POLL_S: Final = 0.05
WAIT_S: Final = 0.01
TAKE_OVER_S: Final = 1.0
#: How often an idle segment is looked at for the death of its writer; how long damage in a live one must
#: persist.
LIVENESS_S: Final = 1.0
IDLE_CLOSE_S: Final = 5.0
BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 15.0

_LOCK_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_SEQ: Final = re.compile(rb'\{"stream":"([0-9a-f]+)","seq":(\d+),')


@dataclass(slots=True)
class _Tail:
    """A segment that is being read."""

    path: Path
    name: Name
    position: Position
    looked_at: float = 0.0
    suspect: tuple[int, float] | None = None


@dataclass(slots=True)
class _Take:
    """What one segment gives to a batch, and where its position is when the batch is stored."""

    tail: _Tail
    position: Position
    frames: list[Frame] = field(default_factory=list)
    damage: list[Entry] = field(default_factory=list)
    finished: bool = False


class Drainer:
    """Delivers the records of one spool directory to one sink.

    Args:
        directory: the spool directory.
        fingerprint: only segments of this target are touched.
        deliver: stores the JSON texts of records; raises `RetryLaterError` when the sink takes nothing now.
        sink: name of the sink; each has its own lock and its own positions.
        sinks: all sinks that must be done with a segment before it is deleted.
        database: alias for which the thread uses a connection of its own.
    """

    def __init__(
        self,
        directory: Path,
        fingerprint: str,
        deliver: Callable[[Sequence[bytes]], Outcome],
        *,
        sink: str = "database",
        sinks: Sequence[str] = ("database",),
        database: str | None = None,
    ) -> None:
        self.directory = directory
        self.fingerprint = fingerprint
        self._deliver = deliver
        self._sink = sink
        self._sinks = tuple(sinks)
        self._database = database
        self._tails: dict[str, _Tail] = {}
        self._thread: threading.Thread | None = None
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
            self._thread = threading.Thread(target=self._run, name="otel-audit-drain", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Look at the spool now instead of at the next poll."""
        self._wake.set()

    def stop(self, timeout: float) -> int:
        """Ask the thread to end after its batch, wait ``timeout`` seconds at most; return how many records are left."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                logger.warning("The audit drain did not end within %.1f s; its batch is repeated by the next.", timeout)
        else:
            self._give_up_lock()
        return self.left()

    def run_until_empty(self, timeout: float) -> int:
        """Deliver what is in the spool, for ``timeout`` seconds at most; return how many records are left.

        With the thread running, here or in another process, this waits for it; else the caller's thread does the work.
        """
        deadline = time.monotonic() + timeout
        if self._thread is not None and self._thread.is_alive():
            while not self._is_empty() and (left := deadline - time.monotonic()) > 0:
                self.wake()
                time.sleep(min(left, WAIT_S))
        else:
            with self._own_connection():
                self._drain_here(deadline)
        return self.left()

    def left(self) -> int:
        """Return how many records of this target the sink has not got yet."""
        return pending(self.directory, self.fingerprint, self._sink)["pending"]

    def _run(self) -> None:
        with self._own_connection():
            used_at = time.monotonic()
            while not self._stop.is_set():
                self._wake.clear()
                pause, moved = self._step()
                if moved:
                    used_at = time.monotonic()
                elif self._database is not None and time.monotonic() - used_at > IDLE_CLOSE_S:
                    close_own_connection(self._database)
                    used_at = time.monotonic()
                if pause:
                    # A wake-up ends the wait for new records, never the wait for a sink in trouble.
                    (self._stop if self._failures else self._wake).wait(pause)
            self._give_up_lock()

    def _step(self) -> tuple[float, int]:
        """Work once; return how long to pause and how many records moved."""
        try:
            if not self._take_lock():
                return TAKE_OVER_S, 0
            moved = self.drain_once()
        except Exception as error:  # the edge of the thread: it outlives whatever went wrong
            self._failures += 1
            expected = isinstance(error, RetryLaterError)
            if not expected:
                logger.debug("The audit drain failed", exc_info=error)
            raise_alarm("outage" if expected else "drain", 1, error)
            if self._database is not None:
                close_own_connection(self._database)
            return self._backoff(), 0
        self._failures = 0
        return (0.0 if moved else POLL_S), moved

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
            return True
        fd = os.open(self.directory / f"drain.{self._sink}.lock", _LOCK_FLAGS, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock_fd = fd
        self._tails.clear()  # another may have moved the positions
        return True

    def _give_up_lock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _drain_here(self, deadline: float) -> None:
        """Work in the caller's thread until nothing is left or the time is over."""
        try:
            while True:
                pause, moved = self._step()
                left = deadline - time.monotonic()
                if left <= 0 or (not moved and self._is_empty()):
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
        with self._work:
            takes = self._collect()
            frames = [(take, found) for take in takes for found in take.frames]
            outcome = self._deliver([found.payload for _, found in frames]) if frames else Outcome()
            refused = {rejection.index: rejection for rejection in outcome.rejections}
            entries = [entry for take in takes for entry in take.damage]
            for index, (take, found) in enumerate(frames):
                rejection = refused.get(index)
                if rejection is None:
                    take.position.stored += 1
                else:
                    take.position.quarantined += 1
                    entries.append(
                        self._entry(take.tail, rejection.reason, rejection.error, found.offset, found.payload)
                    )
            quarantine.add(self.directory, entries)
            for take in takes:
                take.position.save(take.tail.path, self._sink)
                take.tail.position = take.position
                if take.finished:
                    self._retire(take.tail)
        for entry in entries:
            raise_alarm(entry.reason, 1, f"{entry.segment} at {entry.offset}: {entry.error}")
        return len(frames) + len(entries)

    def _collect(self) -> list[_Take]:
        takes: list[_Take] = []
        room, size = BATCH_RECORDS, BATCH_BYTES
        paths = segments(self.directory)
        for gone in self._tails.keys() - {path.name for path in paths}:
            del self._tails[gone]
        for path in paths:
            tail = self._tail(path)
            if tail is None or tail.position.done:
                continue
            take = self._read(tail, room, size)
            if take is not None:
                takes.append(take)
                room -= len(take.frames)
                size -= sum(len(found.payload) for found in take.frames)
            if room <= 0 or size <= 0:
                break
        return takes

    def _tail(self, path: Path) -> _Tail | None:
        """Return what is known of a segment, None when it is not for this drainer."""
        tail = self._tails.get(path.name)
        if tail is None:
            name = Name.parse(path.name)
            if name is None or name.fingerprint != self.fingerprint:
                return None
            tail = self._tails[path.name] = _Tail(path, name, Position.load(path, self._sink))
        return tail

    def _read(self, tail: _Tail, room: int, size: int) -> _Take | None:
        now = time.monotonic()
        if tail.path.stat().st_size <= tail.position.offset and now - tail.looked_at < LIVENESS_S:
            return None
        tail.looked_at = now
        with Segment(tail.path) as segment:
            complete = segment.is_complete()  # asked first: what is appended after the answer is read the next time
            take = _Take(tail, replace(tail.position))
            if not self._read_header(segment, take):
                return None
            full = self._read_frames(segment, take, room, size)
            if not full:
                self._read_end(segment, take, complete=complete)
        return take if take.position != tail.position or take.finished else None

    def _read_header(self, segment: Segment, take: _Take) -> bool:
        """Look at the header of a segment that is new here; False when it is for newer code or another database."""
        if take.position.offset:
            return True
        header = segment.header()
        if header is None:
            return True  # damaged: the name has said whose it is, reading goes on behind
        if header["format"] != FORMAT_VERSION or header["fingerprint"] != self.fingerprint:
            return False
        take.position.first_seq = take.position.next_seq = header["first_seq"]
        return True

    def _read_frames(self, segment: Segment, take: _Take, room: int, size: int) -> bool:
        """Take sound frames; True when the batch is full."""
        position = take.position
        for found in segment.frames(position.offset):
            if found.kind == RECORD:
                if room <= 0 or size <= 0:
                    return True
                self._number(take, found)
                room -= 1
                size -= len(found.payload)
            elif found.kind == CLOSE:
                position.closed = True
                self._skip_to(take, json.loads(found.payload)["seq"] + 1)
            position.offset = found.end
        return False

    def _number(self, take: _Take, found: Frame) -> None:
        """Check stream and number of a record; one that does not belong here is quarantined."""
        match = _SEQ.match(found.payload)
        position = take.position
        if match is None or match[1].decode() != take.tail.name.stream or int(match[2]) < position.next_seq:
            error = f"a record that does not follow number {position.next_seq - 1} of this stream"
            take.damage.append(self._entry(take.tail, "sequence", error, found.offset, found.payload))
            position.quarantined += 1
            return
        self._skip_to(take, int(match[2]))
        position.next_seq += 1
        position.damaged = False
        take.frames.append(found)

    def _skip_to(self, take: _Take, seq: int) -> None:
        """Count the records that are missing before number ``seq``: they lie in damage put aside, or are lost."""
        position = take.position
        missing = seq - position.next_seq
        if missing <= 0:
            return
        if position.damaged:
            position.quarantined += missing
        else:
            position.lost += missing
            raise_alarm("gap", missing, f"{take.tail.path.name}: records are missing before number {seq}")
        position.next_seq = seq

    def _read_end(self, segment: Segment, take: _Take, *, complete: bool) -> None:
        """Look at what stands behind the last sound frame: nothing, an append under way, or damage."""
        position, tail = take.position, take.tail
        end = segment.size()
        if position.offset >= end:
            take.finished = complete
            return
        if not complete and not self._persists(tail, position.offset):
            return
        following = segment.resume(position.offset)
        if following is None and not complete:
            return
        stop = end if following is None else following
        data = segment.read(position.offset, stop)
        torn = following is None
        error = f"{len(data)} bytes {'at the torn end' if torn else 'in the middle'} are no sound record"
        logger.warning("%s: %s, from offset %d on; kept in quarantine.", tail.path.name, error, position.offset)
        take.damage.append(self._entry(tail, "torn" if torn else "damage", error, position.offset, data))
        position.offset = stop
        position.damaged = True
        take.finished = torn

    def _persists(self, tail: _Tail, offset: int) -> bool:
        """Whether the same place of a live segment has been unreadable for a while: no append takes that long."""
        now = time.monotonic()
        if tail.suspect is None or tail.suspect[0] != offset:
            tail.suspect = (offset, now)
        return now - tail.suspect[1] > LIVENESS_S

    def _entry(self, tail: _Tail, reason: str, error: str, offset: int, data: bytes) -> Entry:
        return Entry(reason, error, tail.path.name, offset, self._sink, self.fingerprint, data)

    # ── the end of a segment ────────────────────────────────────────────────────────────────────

    def _retire(self, tail: _Tail) -> None:
        """Mark a segment as done, and delete it when every sink is done with it."""
        tail.position.done = True
        tail.position.save(tail.path, self._sink)
        if not all(Position.load(tail.path, sink).done for sink in self._sinks):
            return
        later = [name for path in segments(self.directory) if (name := Name.parse(path.name))]
        last = not any(name.stream == tail.name.stream and name.number > tail.name.number for name in later)
        with locked(self.directory) as accounts:
            missing = accounts.retire(tail.path, tail.position, last=last)
        if missing:
            raise_alarm("gap", missing, f"{tail.path.name}: {missing} records before its first are missing")
        if last and not tail.position.closed:
            logger.warning("The audit stream %s of process %d ended without closing.", tail.name.stream, tail.name.pid)
        tail.path.unlink(missing_ok=True)
        for sink in self._sinks:
            position_path(tail.path, sink).unlink(missing_ok=True)
        with locked(self.directory) as accounts:
            accounts.retired = [name for name in accounts.retired if name != tail.path.name]

    def _is_empty(self) -> bool:
        for path in segments(self.directory):
            name = Name.parse(path.name)
            if name is None or name.fingerprint != self.fingerprint:
                continue
            try:
                if path.stat().st_size > Position.load(path, self._sink).offset:
                    return False
            except FileNotFoundError:  # delivered and deleted in the meantime
                continue
        return True


def pending(directory: Path, fingerprint: str | None = None, sink: str = "database") -> dict[str, int]:
    """Return what became of the records of a spool directory.

    Args:
        directory: the spool directory.
        fingerprint: count the segments of this target only; None: of all.
        sink: the sink asked for.

    Returns:
        Counts of records: ``captured``, ``stored``, ``pending``, ``quarantined``, ``lost``; and of
        ``segments`` and ``unclosed_streams``.
    """
    accounts = load_accounts(directory)
    found = {
        "captured": 0,
        "stored": accounts.stored,
        "pending": 0,
        "quarantined": accounts.quarantined,
        "lost": sum(accounts.lost.values()),
        "segments": 0,
        "unclosed_streams": accounts.unclosed_streams,
    }
    for path in segments(directory):
        name = Name.parse(path.name)
        if name is None or name.fingerprint != (fingerprint or name.fingerprint) or path.name in accounts.retired:
            continue
        position = Position.load(path, sink)
        try:
            with Segment(path) as segment:
                found["pending"] += segment.count(position.offset)
        except FileNotFoundError:  # delivered and deleted in the meantime
            continue
        found["segments"] += 1
        found["stored"] += position.stored
        found["quarantined"] += position.quarantined
        found["lost"] += position.lost
    found["captured"] = found["stored"] + found["pending"] + found["quarantined"] + found["lost"]
    return found


#: A forked child inherits the lock's descriptor: kept open there, the lock would outlive its holder.
_drainers: weakref.WeakSet[Drainer] = weakref.WeakSet()


def _let_go_after_fork() -> None:
    for drainer in list(_drainers):
        drainer._give_up_lock()
        drainer._thread = None


os.register_at_fork(after_in_child=_let_go_after_fork)
