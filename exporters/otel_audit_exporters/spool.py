"""Appending to the spool: where a record is safe before the response leaves.

Own segments on the standard library alone, as every ready-made queue was slower, pickles, or was not safe
against power loss. One writer per process, one file per writer: nobody waits for another process. A plain
``write`` survives ``kill -9``; what also survives power loss is for ``fsync`` to say.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from otel_audit.exceptions import SpoolError
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.directory import open_directory
from otel_audit_exporters.envelope import Record, seal
from otel_audit_exporters.flusher import INTERVAL_S, Durable, Flusher
from otel_audit_exporters.losses import EXCLUDED, LossFile, loss_path
from otel_audit_exporters.room import Room
from otel_audit_exporters.segments import CLOSE, DONE, FORMAT_VERSION, HEADER, INTENT, OPEN, RECORD, Name, frame

__all__ = ["SEGMENT_BYTES", "SpoolWriter"]

logger = logging.getLogger("otel_audit.delivery")

SEGMENT_BYTES: Final = 16 * 1024 * 1024
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SpoolWriter:
    """Appends the records of one process. Nothing is created before the first record.

    Args:
        directory: the spool directory.
        fingerprint: names the target database (`otel_audit.conf.database_fingerprint`).
        max_bytes: limit of the whole directory in bytes.
        fsync: ``"interval"``: the disk has it within 100 ms; ``"always"``: as soon as possible, for `wait_durable`.
        segment_bytes: size at which the next segment is begun.
    """

    def __init__(
        self,
        directory: Path,
        fingerprint: str,
        max_bytes: int,
        *,
        fsync: str = "interval",
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.directory = directory
        self.fingerprint = fingerprint
        self.stream = os.urandom(8).hex()
        self._room = Room(directory, max_bytes)
        self._segment_bytes = segment_bytes
        # Re-entrant, so that a signal handler that records while its own thread appends gets an error, not a
        # deadlock.
        self._lock = threading.RLock()
        self._busy = False
        self._fd = -1
        # The same in all names of the stream, so that they sort by their number also when the clock steps back.
        self._started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        self._number = 0
        self._seq = 0
        self._size = 0
        self._closed = False
        #: Frames of the requests that are open, by record id; see `otel_audit_exporters.intents`.
        self._open: dict[str, bytes] = {}
        #: Requests that ended without a record here, of which the segment does not know yet.
        self._ended: list[str] = []
        self._intents = 0
        self._head_size = 0
        self._close_later = False
        #: Segments that were given up while requests were open: their lock says that this process lives.
        self._given_up: list[int] = []
        self._lost: Counter[str] = Counter()
        self._loss_file: LossFile | None = None
        self._flusher = Flusher(0.0 if fsync == "always" else INTERVAL_S, self._written, self._sync_failed)
        #: Whether who appends is to wait for the disk.
        self.is_synchronous = fsync == "always"

    @property
    def locks(self) -> tuple[Any, Any]:
        """Who holds one of these is inside of this writer, and must not wait for one that may want to be."""
        return self._lock, self._flusher.guard

    @property
    def records(self) -> int:
        """How many records were appended."""
        return self._seq

    def append(self, records: Sequence[Record]) -> int:
        """Append ``records``: all of them when this returns, none when it raises. They survive ``kill -9`` then.

        Returns:
            What `wait_durable` and `when_durable` take.

        Raises:
            SpoolError: the directory cannot be used, the disk or the spool is full, or the writer is closed.
        """
        observed = _now()
        with self._lock:
            self._begin()
            try:
                seq = self._seq
                parts = [
                    frame(RECORD, seal(record, self.stream, seq, observed))
                    for seq, record in enumerate(records, seq + 1)
                ]
                data = parts[0] if len(parts) == 1 else b"".join(parts)
                self._make_room(len(data))
                self._write(data, seq + len(parts))
                ticket = self._seq + self._intents
            finally:
                self._busy = False
            if self._open:
                for record in records:
                    self._open.pop(record.id, None)
        self._flusher.want()
        self._close_if_asked()
        return ticket

    def intend(self, record: Record) -> int:
        """Append the intent of a request; it survives ``kill -9`` when this returns, and is not there when it raises.

        The request's own record completes it when it is appended, else `complete` has to be called.

        Returns:
            What `wait_durable` and `when_durable` take.

        Raises:
            SpoolError: the directory cannot be used, the disk or the spool is full, or the writer is closed.
        """
        with self._lock:
            self._begin()
            try:
                data = frame(INTENT, seal(record, self.stream, 0, _now()))
                self._make_room(len(data))
                self._write(data, self._seq)
                self._intents += 1
                self._open[record.id] = data
                ticket = self._seq + self._intents
            except BaseException as error:
                if not isinstance(error, SpoolError):
                    self._ended.append(record.id)  # a signal handler has raised: it may be there all the same
                raise
            finally:
                self._busy = False
        self._flusher.want()
        return ticket

    def complete(self, record_id: str) -> None:
        """Say that a request has ended whose record is not in this stream. Never fails: it is said later then."""
        with self._lock:
            if self._open.pop(record_id, None) is None:
                return
            self._ended.append(record_id)
            if self._fd >= 0 and not self._busy:
                try:
                    self._write(b"", self._seq)
                except SpoolError as error:
                    logger.warning("The end of a request without record is not noted yet: %s", error)
        self._close_if_asked()

    def wait_durable(self, ticket: int, timeout: float) -> None:
        """Wait until what `append` or `intend` gave ``ticket`` for is on the disk, so that it survives a power loss.

        Raises:
            SpoolError: the disk refused it, or did not answer within ``timeout`` seconds.
        """
        answered = threading.Event()
        answers: list[OSError | None] = []

        def durable(error: OSError | None) -> None:
            answers.append(error)
            answered.set()

        self._flusher.notify(ticket, durable)
        if not answered.wait(timeout):
            raise SpoolError(f"The disk of the spool {self.directory} did not answer within {timeout} s.")
        if answers[0] is not None:
            raise SpoolError(
                f"The disk of the spool {self.directory} failed: {answers[0].strerror}. Check the disk."
            ) from answers[0]

    def when_durable(self, ticket: int, durable: Durable) -> None:
        """Call ``durable`` from another thread, or at once, when what got ``ticket`` is on the disk.

        It gets None, or the error by which the disk refused it. For event loops: no thread waits.
        """
        self._flusher.notify(ticket, durable)

    def record_loss(self, counts: Mapping[str, int]) -> None:
        """Note that records could not be kept, by reason, in a block that was reserved for it.

        Before the first record there is no block: the counts are kept in memory until there is one.
        Requests that were refused are counted the same way, as `otel_audit_exporters.losses.REFUSED`.
        """
        with self._lock:
            self._lost.update(counts)
            self._note_losses()

    def exclude(self, by: str) -> None:
        """Count a request that leaves no record, in the same block; it survives ``kill -9``, no power loss.

        Raises:
            SpoolError: there is no block, and none can be made now: the count is kept in memory.
        """
        with self._lock:
            self._lost[EXCLUDED + by] += 1
            if self._fd < 0 and self._loss_file is None and not self._busy and not self._closed:
                self._next_segment()
            else:
                self._note_losses(sync=False)

    def unnoted(self) -> dict[str, int]:
        """Return, by reason, what is in memory as there is no block yet that it could be noted in."""
        return dict(self._lost)

    def close(self) -> None:
        """Write the frame that says how many records this stream has, and let go of the segment.

        While requests are open the stream is not at its end, and their intents must not be taken for those of a dead
        process: then it closes with the last one, or dies with the process.
        """
        with self._lock:
            if self._closed or self._busy:
                return
            if self._open:
                self._close_later = True
                return
            self._closed = True
            if self._fd >= 0:
                try:
                    self._write(self._mark(CLOSE, "close", {"records": self._seq}), self._seq)
                except SpoolError as error:
                    logger.warning("The audit stream %s ends without its closing frame: %s", self.stream, error)
        self._flusher.stop()
        with self._lock:
            self._release()
            if self._loss_file is not None:
                self._loss_file.close()
                self._loss_file = None

    def _close_if_asked(self) -> None:
        if self._close_later and not self._open:
            self.close()

    def after_fork_in_child(self) -> None:
        """Let go of the parent's segment without unlocking it; this writer is unusable in the child."""
        # Takes no lock: another thread of the parent may have held it at the fork.
        self._closed = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        while self._given_up:
            os.close(self._given_up.pop())
        if self._loss_file is not None:
            self._loss_file.close()
            self._loss_file = None

    def _begin(self) -> None:
        if self._busy or self._closed:
            raise SpoolError(f"The spool {self.directory} takes no record now: it is {self._state()}.")
        self._busy = True

    def _state(self) -> str:
        return "closed" if self._closed else "in the middle of another append of this thread"

    # ── one write ───────────────────────────────────────────────────────────────────────────────

    def _write(self, data: bytes, seq: int) -> None:
        """Append ``data``, behind the ends of requests that are still to be said."""
        before = self._size
        if self._ended:
            data = self._mark(DONE, "done", {"ids": self._ended}) + data
        try:
            _write_all(self._fd, data)
            self._size = before + len(data)
            self._seq = seq
            self._ended.clear()
        except BaseException as error:
            # Not only OSError: a signal handler may have raised between two bytecodes.
            self._settle(before, len(data), seq)
            if isinstance(error, OSError):
                raise SpoolError(
                    f"The spool {self.directory} cannot be written: {error.strerror}. Free some space, check the disk."
                ) from error
            raise

    def _settle(self, before: int, length: int, seq: int) -> None:
        """Only the file knows how far an append came: it counts when it is all there, else nothing of it stays."""
        try:
            if os.fstat(self._fd).st_size == before + length:
                self._size, self._seq = before + length, seq
                self._ended.clear()
                return
            os.ftruncate(self._fd, before)
        except OSError as error:
            logger.warning("The audit segment of stream %s is given up: %s", self.stream, error)
            self._give_up()

    def _written(self) -> tuple[int, int]:
        return self._seq + self._intents, self._fd

    def _sync_failed(self, fd: int, error: OSError) -> None:
        """Give the segment up: what failed to sync once must never be synced again as if nothing were."""
        raise_alarm("fsync", 1, f"{self.directory}: {error.strerror}; a new segment is begun")
        with self._lock:
            if self._fd != fd:
                return
            try:
                self._next_segment(sync=False)
            except SpoolError as also:
                logger.warning("No new audit segment yet: %s", also)
                self._give_up()

    def _note_losses(self, *, sync: bool = True) -> None:
        if self._fd < 0 and self._loss_file is None:
            return  # the block belongs to a stream that has a segment
        try:
            if self._loss_file is None:
                self._loss_file = LossFile(loss_path(self.directory, self.stream, self.fingerprint))
            if self._lost:
                self._loss_file.add(self._lost, sync=sync)
                self._lost.clear()
        except OSError as error:
            logger.warning("Losses %s of the audit stream are not noted yet: %s", dict(self._lost), error)

    def _mark(self, kind: bytes, name: str, facts: dict[str, Any]) -> bytes:
        """Return a frame of the stream's own accounting; it carries the number of the last record."""
        said = {
            "stream": self.stream,
            "seq": self._seq,
            "observed": _now(),
            "v": 1,
            "type": name,
            "facts": facts,
        }
        return frame(kind, json.dumps(said, separators=(",", ":")).encode("ascii"))

    # ── segments ────────────────────────────────────────────────────────────────────────────────

    def _make_room(self, length: int) -> None:
        if self._fd < 0:
            self._next_segment()
        elif self._is_removed():
            raise_alarm("removed", 1, f"{self.directory}: somebody removed a segment that was in use")
            self._next_segment()
        elif self._size + length > max(self._segment_bytes, 2 * self._head_size):
            self._rotate()  # unless it holds little more than what was carried over
        self._room.require(length, self._size)

    def _is_removed(self) -> bool:
        try:
            return os.fstat(self._fd).st_nlink == 0
        except OSError as error:
            raise SpoolError(f"The spool {self.directory} cannot be looked at: {error.strerror}.") from error

    def _rotate(self) -> None:
        """Begin the next segment; where that cannot be, the present one grows on."""
        try:
            self._next_segment()
        except SpoolError as error:
            if self._fd < 0:
                raise
            logger.warning("The audit segment of stream %s grows beyond its size: %s", self.stream, error)

    def _next_segment(self, *, sync: bool = True) -> None:
        """Begin a segment. It gets its name when it is locked and has its header, so that nobody takes it for dead."""
        directory = open_directory(self.directory)
        try:
            self._number += 1  # a name is never tried twice
            name = Name(self._started, os.getpid(), self.stream, self._number, self.fingerprint)
            temporary = f".{name}"
            fd = os.open(temporary, _FLAGS, 0o600, dir_fd=directory)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                head = self._header(name)
                _write_all(fd, head)
                if self._open:
                    os.fdatasync(fd)  # those before it no longer count: a power loss must not take them
                os.rename(temporary, str(name), src_dir_fd=directory, dst_dir_fd=directory)
                os.fsync(directory)
            except BaseException:
                os.close(fd)
                for leftover in (temporary, str(name)):
                    with suppress(FileNotFoundError):
                        os.unlink(leftover, dir_fd=directory)
                raise
        except OSError as error:
            raise SpoolError(
                f"The spool {self.directory} takes no new segment: {error.strerror}. "
                "Free some space or check the permissions."
            ) from error
        finally:
            os.close(directory)
        if sync and self._fd >= 0:
            _, failure = self._flusher.sync()
            if failure is not None:
                raise_alarm("fsync", 1, f"{self.directory}: {failure.strerror}")
        self._release()
        self._fd, self._size = fd, len(head)
        self._head_size = len(head)
        self._ended.clear()  # what has ended was not carried over
        self._room.survey(self._size)
        self._note_losses()

    def _header(self, name: Name) -> bytes:
        said = {
            "format": FORMAT_VERSION,
            "fingerprint": self.fingerprint,
            "stream": self.stream,
            "number": name.number,
            "first_seq": self._seq + 1,
            "pid": name.pid,
        }
        head = frame(HEADER, json.dumps(said, separators=(",", ":")).encode("ascii"))
        if not self._seq:
            head += self._mark(OPEN, "open", {"pid": name.pid})
        return head + b"".join(self._open.values())

    def _release(self) -> None:
        """Close the segment, which gives up the lock: it is complete."""
        with self._flusher.guard:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
        while self._given_up:
            os.close(self._given_up.pop())

    def _give_up(self) -> None:
        """Append nothing more to the segment; let its lock go when nothing else says what is open."""
        with self._flusher.guard:
            if self._fd >= 0:
                if self._open or self._ended:
                    self._given_up.append(self._fd)
                else:
                    os.close(self._fd)
                self._fd = -1


def _now() -> str:
    """Return the time in ISO 8601 with microseconds; all but those is made once a second."""
    nanoseconds = str(time.time_ns())
    return f"{_to_the_second(nanoseconds[:-9])}.{nanoseconds[-9:-3]}+00:00"


@lru_cache(maxsize=2)
def _to_the_second(seconds: str) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])
