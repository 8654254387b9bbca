"""The books of a spool directory: what became of every record, also of those whose segment is long deleted.

``captured = stored + pending + quarantined + lost`` at every moment. What has left the directory stands in
``accounts.json``; what is still there is read from the segments and from their position files, one per sink,
which say how far that sink has come. A position moves only after the commit. One that is unreadable starts
again from zero: inserts are idempotent, and its counts start again with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from otel_audit_exporters.segments import Name

__all__ = ["ACCOUNTS", "Accounts", "Position", "load_accounts", "locked", "replace_file"]

ACCOUNTS: Final = "accounts.json"
LOCK: Final = "accounts.lock"
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Position:
    """How far one sink has come in one segment (``offset``, bytes), and what became of the records before."""

    offset: int = 0
    first_seq: int = 1
    next_seq: int = 1
    stored: int = 0
    quarantined: int = 0
    lost: int = 0
    damaged: bool = False
    closed: bool = False
    done: bool = False

    @classmethod
    def load(cls, segment: Path, sink: str) -> Position:
        """Read the position of ``sink`` in ``segment``; the beginning when there is none that can be read."""
        try:
            text, _, checksum = position_path(segment, sink).read_bytes().partition(b"\t")
            if int(checksum) == zlib.crc32(text):
                return cls(**json.loads(text))
        except (FileNotFoundError, ValueError, TypeError):
            pass  # new, or torn by a power loss: begin again
        return cls()

    def save(self, segment: Path, sink: str) -> None:
        """Write the position; on the disk when this returns."""
        text = json.dumps(asdict(self)).encode("ascii")
        fd = os.open(position_path(segment, sink), _FLAGS, 0o600)
        try:
            line = b"%s\t%d\n" % (text, zlib.crc32(text))
            os.pwrite(fd, line, 0)
            os.ftruncate(fd, len(line))
            os.fdatasync(fd)
        finally:
            os.close(fd)


@dataclass(slots=True)
class Accounts:
    """What became of the records whose segments are gone.

    ``lost`` counts by reason. ``open_streams`` says with which number a stream's next segment must begin, and
    whether what is missing before lies in quarantine. ``retired`` names segments that are counted here and
    not yet deleted.
    """

    stored: int = 0
    quarantined: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    unclosed_streams: int = 0
    open_streams: dict[str, tuple[int, bool]] = field(default_factory=dict)
    retired: list[str] = field(default_factory=list)

    def add_loss(self, reason: str, count: int) -> None:
        """Count ``count`` records as lost for ``reason``."""
        if count:
            self.lost = dict(Counter(self.lost) + Counter({reason: count}))

    def released(self, count: int) -> None:
        """Move ``count`` records from quarantine to stored."""
        self.quarantined -= count
        self.stored += count

    def retire(self, segment: Path, position: Position, *, last: bool) -> int:
        """Take a segment into the books; return how many records are missing in front of it.

        Args:
            segment: its path.
            position: where the sink has come to: its end.
            last: whether the stream has no later segment.
        """
        if segment.name in self.retired:
            return 0
        name = Name.parse(segment.name)
        stream = name.stream if name else ""
        expected, damaged = self.open_streams.pop(stream, (position.first_seq, False))
        missing = max(0, position.first_seq - expected)
        self.stored += position.stored
        self.quarantined += position.quarantined + (missing if damaged else 0)
        self.add_loss("gap", position.lost + (0 if damaged else missing))
        if not last:
            self.open_streams[stream] = (position.next_seq, position.damaged)
        elif not position.closed:
            self.unclosed_streams += 1
        self.retired.append(segment.name)
        return 0 if damaged else missing


def position_path(segment: Path, sink: str) -> Path:
    """Return the path of the position file of ``sink`` for ``segment``."""
    return segment.with_name(f"{segment.name}.{sink}.position")


def load_accounts(directory: Path) -> Accounts:
    """Read the books of ``directory``; empty where there are none yet."""
    try:
        return Accounts(**json.loads((directory / ACCOUNTS).read_bytes()))
    except FileNotFoundError:
        return Accounts()


@contextmanager
def locked(directory: Path) -> Iterator[Accounts]:
    """Hold the lock on books and quarantine of ``directory`` inside the block, and save the books if it succeeds."""
    fd = os.open(directory / LOCK, _FLAGS, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        accounts = load_accounts(directory)
        before = asdict(accounts)
        yield accounts
        if asdict(accounts) != before:
            replace_file(directory / ACCOUNTS, json.dumps(asdict(accounts)).encode("ascii"))
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of ``path`` in one step; on the disk when this returns."""
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, _FLAGS | os.O_TRUNC, 0o600)
    try:
        rest: Any = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
