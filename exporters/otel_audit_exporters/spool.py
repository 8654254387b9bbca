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
from pathlib import Path
from typing import Any, Final

from otel_audit.exceptions import SpoolError
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.directory import directory_problem, directory_warning, open_directory
from otel_audit_exporters.envelope import Record, seal
from otel_audit_exporters.flusher import INTERVAL_S, Durable, Flusher
from otel_audit_exporters.losses import LossFile, loss_path
from otel_audit_exporters.segments import CLOSE, FORMAT_VERSION, HEADER, OPEN, RECORD, Name, frame

__all__ = ["SEGMENT_BYTES", "SpoolWriter", "directory_problem", "directory_warning"]

logger = logging.getLogger("otel_audit.delivery")

SEGMENT_BYTES: Final = 16 * 1024 * 1024
#: The size of the whole directory is looked up again after this many bytes of our own, or this many seconds
#: when full.
_SURVEY_BYTES: Final = 1024 * 1024
_SURVEY_SECONDS: Final = 0.25
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
        self._max_bytes = max_bytes
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
        self._used = 0
        self._surveyed_size = 0
        self._surveyed_at = 0.0
        self._warned_at = -60.0
        self._closed = False
        self._lost: Counter[str] = Counter()
        self._loss_file: LossFile | None = None
        self._flusher = Flusher(0.0 if fsync == "always" else INTERVAL_S, self._written, self._sync_failed)

    def append(self, records: Sequence[Record]) -> int:
        """Append ``records``: all of them when this returns, none when it raises. They survive ``kill -9`` then.

        Returns:
            The number of the last one, for `wait_durable` and `when_durable`.

        Raises:
            SpoolError: the directory cannot be used, the disk or the spool is full, or the writer is closed.
        """
        observed = datetime.now(UTC).isoformat(timespec="microseconds")
        with self._lock:
            if self._busy or self._closed:
                raise SpoolError(f"The spool {self.directory} takes no record now: it is {self._state()}.")
            self._busy = True
            try:
                seq = self._seq
                parts = [
                    frame(RECORD, seal(record, self.stream, seq, observed))
                    for seq, record in enumerate(records, seq + 1)
                ]
                data = parts[0] if len(parts) == 1 else b"".join(parts)
                self._make_room(len(data))
                self._write(data, seq + len(parts))
            finally:
                self._busy = False
        self._flusher.want()
        return seq + len(parts)

    def wait_durable(self, seq: int, timeout: float) -> None:
        """Wait until record number ``seq`` is on the disk, so that it survives a power loss.

        Raises:
            SpoolError: the disk refused it, or did not answer within ``timeout`` seconds.
        """
        answered = threading.Event()
        answers: list[OSError | None] = []

        def durable(error: OSError | None) -> None:
            answers.append(error)
            answered.set()

        self._flusher.notify(seq, durable)
        if not answered.wait(timeout):
            raise SpoolError(f"The disk of the spool {self.directory} did not answer within {timeout} s.")
        if answers[0] is not None:
            raise SpoolError(
                f"The disk of the spool {self.directory} failed: {answers[0].strerror}. Check the disk."
            ) from answers[0]

    def when_durable(self, seq: int, durable: Durable) -> None:
        """Call ``durable`` from another thread, or at once, when record number ``seq`` is on the disk.

        It gets None, or the error by which the disk refused it. For event loops: no thread waits.
        """
        self._flusher.notify(seq, durable)

    def record_loss(self, counts: Mapping[str, int]) -> None:
        """Note that records could not be kept, by reason, in a block that was reserved for it.

        Before the first record there is no block: the counts are kept in memory until there is one.
        """
        with self._lock:
            self._lost.update(counts)
            self._note_losses()

    def close(self) -> None:
        """Write the frame that says how many records this stream has, and let go of the segment."""
        with self._lock:
            if self._closed or self._busy:
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

    def after_fork_in_child(self) -> None:
        """Let go of the parent's segment without unlocking it; this writer is unusable in the child."""
        # Takes no lock: another thread of the parent may have held it at the fork.
        self._closed = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._loss_file is not None:
            self._loss_file.close()
            self._loss_file = None

    def _state(self) -> str:
        return "closed" if self._closed else "in the middle of another append of this thread"

    # ── one write ───────────────────────────────────────────────────────────────────────────────

    def _write(self, data: bytes, seq: int) -> None:
        before = self._size
        try:
            _write_all(self._fd, data)
            self._size = before + len(data)
            self._seq = seq
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
        if os.fstat(self._fd).st_size == before + length:
            self._size, self._seq = before + length, seq
            return
        try:
            os.ftruncate(self._fd, before)
        except OSError as error:
            logger.warning("The audit segment of stream %s is given up: %s", self.stream, error)
            self._release()

    def _written(self) -> tuple[int, int]:
        return self._seq, self._fd

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
                self._release()

    def _note_losses(self) -> None:
        if self._fd < 0 and self._loss_file is None:
            return  # the block belongs to a stream that has a segment
        try:
            if self._loss_file is None:
                self._loss_file = LossFile(loss_path(self.directory, self.stream, self.fingerprint))
            if self._lost:
                self._loss_file.add(self._lost)
                self._lost.clear()
        except OSError as error:
            logger.warning("Losses %s of the audit stream are not noted yet: %s", dict(self._lost), error)

    def _mark(self, kind: bytes, name: str, facts: dict[str, Any]) -> bytes:
        """Return a frame of the stream's own accounting; it carries the number of the last record."""
        said = {
            "stream": self.stream,
            "seq": self._seq,
            "observed": datetime.now(UTC).isoformat(timespec="microseconds"),
            "v": 1,
            "type": name,
            "facts": facts,
        }
        return frame(kind, json.dumps(said, separators=(",", ":")).encode("ascii"))

    # ── segments ────────────────────────────────────────────────────────────────────────────────

    def _make_room(self, length: int) -> None:
        if self._fd < 0:
            self._next_segment()
        elif os.fstat(self._fd).st_nlink == 0:
            raise_alarm("removed", 1, f"{self.directory}: somebody removed a segment that was in use")
            self._next_segment()
        elif self._size + length > self._segment_bytes:
            self._rotate()
        grown = self._size - self._surveyed_size
        full = self._used + grown + length > self._max_bytes
        if grown > _SURVEY_BYTES or (full and time.monotonic() - self._surveyed_at > _SURVEY_SECONDS):
            self._survey()
            grown = 0
            full = self._used + length > self._max_bytes
        if full:
            raise SpoolError(
                f"The spool {self.directory} is full: {self._used + grown} of {self._max_bytes} bytes. "
                'Bring the audit database back, or raise OTEL_AUDIT["SPOOL_MAX_BYTES"].'
            )

    def _survey(self) -> None:
        """Look up the size of the whole directory, and warn once a minute from 80 % on."""
        try:
            with os.scandir(self.directory) as entries:
                self._used = sum(_size_of(entry) for entry in entries)
        except OSError as error:
            raise SpoolError(f"The spool directory {self.directory} cannot be listed: {error.strerror}.") from error
        self._surveyed_size = self._size
        self._surveyed_at = time.monotonic()
        if self._used > 0.8 * self._max_bytes and self._surveyed_at - self._warned_at >= 60:
            self._warned_at = self._surveyed_at
            logger.warning(
                "The audit spool %s holds %d of %d bytes; the audit database does not keep up.",
                self.directory,
                self._used,
                self._max_bytes,
            )

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
        self._survey()
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
        return head if self._seq else head + self._mark(OPEN, "open", {"pid": name.pid})

    def _release(self) -> None:
        """Close the segment, which gives up the lock: it is complete."""
        with self._flusher.guard:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def _size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # drained and deleted in the meantime
        return 0
