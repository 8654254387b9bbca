"""The books of a spool directory: what became of every record, also of those whose segment is long deleted.

``captured = stored + pending + quarantined + lost`` at every moment. What has left the directory stands in
``accounts-<fingerprint>.json``, one for each target database; what is still there is read from the segments and from
their position files, one per sink, which say how far that sink has come. Requests that were refused are counted
beside it, as ``refused``; an intent counts when its stream has died before it was completed. A position moves only
after the commit. One that is unreadable starts again from zero: inserts are idempotent, and its counts start again
with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.intents import left_open
from otel_audit_exporters.losses import REFUSED, excluded, read_losses
from otel_audit_exporters.segments import RECORD, Name, Segment, segments

__all__ = [
    "DATABASE",
    "Accounts",
    "Position",
    "books_are_held_here",
    "excluded_by",
    "load_accounts",
    "locked",
    "oldest_pending",
    "pending",
    "position_path",
    "replace_file",
]

#: The sink whose positions are the books; what became of the records of other sinks is counted beside them.
DATABASE: Final = "database"

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
#: Threads that hold the lock of some books, or wait for it.
_holders: Final[set[int]] = set()
#: In the provenance, which stands in front of what was captured.
_OBSERVED: Final = re.compile(rb'"observed":"([^"]+)"')


@dataclass(slots=True)
class Position:
    """How far one sink has come in one segment (``offset``, bytes), and what became of the records before."""

    offset: int = 0
    first_seq: int = 1
    next_seq: int = 1
    stored: int = 0
    quarantined: int = 0
    lost: int = 0
    #: The bytes before the position were damaged; what is missing before the next record lies in quarantine.
    damaged: bool = False
    #: The header was damaged; the first number is that of the first record which could be read.
    headless: bool = False
    closed: bool = False
    #: How many of the intents that the stream left open are counted above.
    resolved: int = 0
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
    not yet deleted. ``others`` has the counts of the sinks beside the database.
    """

    stored: int = 0
    quarantined: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    excluded: dict[str, int] = field(default_factory=dict)
    unclosed_streams: int = 0
    open_streams: dict[str, tuple[int, bool]] = field(default_factory=dict)
    retired: list[str] = field(default_factory=list)
    others: dict[str, dict[str, int]] = field(default_factory=dict)

    def count(self, what: str, sink: str) -> int:
        """Return how many records of ``sink`` are ``"stored"``, ``"quarantined"`` or ``"lost"``."""
        if sink != DATABASE:
            return self.others.get(sink, {}).get(what, 0)
        return {"stored": self.stored, "quarantined": self.quarantined, "lost": sum(self.lost.values())}[what]

    def add_loss(self, reason: str, count: int) -> None:
        """Count ``count`` records as lost for ``reason``."""
        if count:
            self.lost = dict(Counter(self.lost) + Counter({reason: count}))

    def released(self, count: int, sink: str) -> None:
        """Move ``count`` records of ``sink`` from quarantine to stored."""
        if sink != DATABASE:
            self._add(sink, stored=count, quarantined=-count)
            return
        self.quarantined -= count
        self.stored += count

    def _add(self, sink: str, **counts: int) -> None:
        """Count records of another sink than the database."""
        found = self.others.setdefault(sink, {})
        for key, count in counts.items():
            found[key] = found.get(key, 0) + count

    def retire(self, segment: Path, position: Position, *, last: bool, others: Mapping[str, Position]) -> int:
        """Take a segment into the books; return how many records are missing in front of it.

        Args:
            segment: its path.
            position: where the database has come to: its end.
            last: whether the stream has no later segment.
            others: where the other sinks have come to.
        """
        if segment.name in self.retired:
            return 0
        name = Name.parse(segment.name)
        stream = name.stream if name else ""
        expected, damaged = self.open_streams.pop(stream, (position.first_seq, False))
        damaged = damaged or position.headless
        missing = max(0, position.first_seq - expected)
        self.stored += position.stored
        self.quarantined += position.quarantined + (missing if damaged else 0)
        self.add_loss("gap", position.lost + (0 if damaged else missing))
        for sink, found in others.items():
            self._add(sink, stored=found.stored, quarantined=found.quarantined, lost=found.lost)
        if not last:
            self.open_streams[stream] = (max(expected, position.next_seq), position.damaged)
        elif not position.closed:
            self.unclosed_streams += 1
        self.retired.append(segment.name)
        return 0 if damaged else missing

    def retire_losses(self, path: Path) -> None:
        """Take the losses of a stream that has ended into the books."""
        if path.exists() and path.name not in self.retired:
            losses = read_losses(path)
            self.refused += losses.pop(REFUSED, 0)
            self.excluded = dict(Counter(self.excluded) + excluded(losses))
            for reason, count in losses.items():
                self.add_loss(reason, count)
            self.retired.append(path.name)


def position_path(segment: Path, sink: str) -> Path:
    """Return the path of the position file of ``sink`` for ``segment``."""
    return segment.with_name(f"{segment.name}.{sink}.position")


def load_accounts(directory: Path, fingerprint: str) -> Accounts:
    """Read the books of one target; empty where there are none yet."""
    path = directory / f"accounts-{fingerprint}.json"
    try:
        return Accounts(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Accounts()
    except (ValueError, TypeError) as error:
        # Delivering matters more than counting: begin again, and keep what cannot be read.
        path.replace(path.with_suffix(".damaged"))
        raise_alarm("accounts", 1, f"{path} cannot be read and was put aside: {error}")
        return Accounts()


@contextmanager
def locked(directory: Path, fingerprint: str) -> Iterator[Accounts]:
    """Hold the lock on books and quarantine of a target inside the block; save the books if it succeeds."""
    fd = os.open(directory / f"accounts-{fingerprint}.lock", _FLAGS, 0o600)
    _holders.add(threading.get_ident())
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        accounts = load_accounts(directory, fingerprint)
        before = asdict(accounts)
        yield accounts
        if asdict(accounts) != before:
            data = json.dumps(asdict(accounts)).encode("ascii")
            replace_file(directory / f"accounts-{fingerprint}.json", data)
    finally:
        os.close(fd)
        _holders.discard(threading.get_ident())


def books_are_held_here() -> bool:
    """Return whether the calling thread holds the lock on books of some target."""
    return threading.get_ident() in _holders


def pending(directory: Path, fingerprint: str | None = None, sink: str = DATABASE) -> dict[str, int]:
    """Return what became of the records of a spool directory.

    Args:
        directory: the spool directory.
        fingerprint: count the records for this target only; None: for all.
        sink: the sink asked for.

    Returns:
        Counts of records: ``captured``, ``stored``, ``pending``, ``quarantined``, ``lost``; of requests: ``refused``;
        and of ``segments`` and ``unclosed_streams``.
    """
    while True:
        before = _books(directory, fingerprint)
        found = _count(directory, fingerprint, sink, before)
        if _books(directory, fingerprint) == before:
            return found
        # a segment went into the books while we counted


def excluded_by(directory: Path, fingerprint: str) -> Counter[str]:
    """Return how many requests the policy left out, by what of it says so."""
    while True:
        before = load_accounts(directory, fingerprint)
        found = Counter(before.excluded)
        for path in directory.glob(f"*-{fingerprint}.losses"):
            if path.name not in before.retired:
                found += excluded(read_losses(path))
        if load_accounts(directory, fingerprint) == before:
            return found


def oldest_pending(directory: Path, fingerprint: str | None = None, sink: str = DATABASE) -> datetime | None:
    """Return when the record was captured that waits longest for ``sink``; None where none waits."""
    found: list[datetime] = []
    for path in segments(directory):
        name = Name.parse(path.name)
        if name is None or name.fingerprint != (fingerprint or name.fingerprint):
            continue
        position = Position.load(path, sink)
        if position.done:
            continue
        try:
            with Segment(path) as segment:
                waiting = (frame for frame in segment.frames(position.offset) if frame.kind == RECORD)
                first = next(waiting, None) or next(iter(left_open(segment)[position.resolved :]), None)
        except FileNotFoundError:  # delivered in the meantime, and deleted
            continue
        if first is not None and (match := _OBSERVED.search(first.payload, 0, 200)) is not None:
            found.append(datetime.fromisoformat(match[1].decode()))
    return min(found, default=None)


def _books(directory: Path, fingerprint: str | None) -> list[Accounts]:
    if fingerprint is not None:
        return [load_accounts(directory, fingerprint)]
    names = sorted(path.stem.removeprefix("accounts-") for path in directory.glob("accounts-*.json"))
    return [load_accounts(directory, name) for name in names]


def _count(directory: Path, fingerprint: str | None, sink: str, books: list[Accounts]) -> dict[str, int]:
    found = {
        "captured": 0,
        "stored": sum(accounts.count("stored", sink) for accounts in books),
        "pending": 0,
        "quarantined": sum(accounts.count("quarantined", sink) for accounts in books),
        "lost": sum(accounts.count("lost", sink) for accounts in books),
        "refused": sum(accounts.refused for accounts in books),
        "segments": 0,
        "unclosed_streams": sum(accounts.unclosed_streams for accounts in books),
    }
    retired = {name for accounts in books for name in accounts.retired}
    for path in segments(directory):
        name = Name.parse(path.name)
        if name is None or name.fingerprint != (fingerprint or name.fingerprint) or path.name in retired:
            continue
        position = Position.load(path, sink)
        try:
            with Segment(path) as segment:
                found["pending"] += segment.count(position.offset)
                if not position.done:
                    found["pending"] += len(left_open(segment)) - position.resolved
        except FileNotFoundError:  # delivered in the meantime, and deleted
            continue
        found["segments"] += 1
        found["stored"] += position.stored
        found["quarantined"] += position.quarantined
        found["lost"] += position.lost
    for path in directory.glob(f"*-{fingerprint or '*'}.losses"):
        if path.name not in retired:
            losses = read_losses(path)
            found["refused"] += losses.pop(REFUSED, 0)
            excluded(losses)
            if sink == DATABASE:
                found["lost"] += sum(losses.values())
    found["captured"] = found["stored"] + found["pending"] + found["quarantined"] + found["lost"]
    return found


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of ``path`` in one step; on the disk when this returns."""
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, _FLAGS | os.O_TRUNC, 0o600)
    try:
        rest: Any = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    except OSError:
        temporary.unlink()  # half a file would take the space that was missing
        raise
    finally:
        os.close(fd)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
