"""Reads on in the segments of a spool directory: which records come next, and what to make of damage.

It changes nothing on disk: what was read is a `Take`, with the position that holds when its records are stored.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from otel_audit_exporters.accounts import Position
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.intents import as_record, left_open
from otel_audit_exporters.quarantine import Entry
from otel_audit_exporters.segments import CLOSE, FORMAT_VERSION, RECORD, Frame, Name, Segment, is_torn, segments

__all__ = ["Tail", "Tailer", "Take"]

logger = logging.getLogger("otel_audit.delivery")

BATCH_RECORDS: Final = 500
BATCH_BYTES: Final = 4 * 1024 * 1024
#: How often an idle segment is looked at for the death of its writer; how long damage in a live one must persist.
LIVENESS_S: Final = 1.0

_SEQ: Final = re.compile(rb'\{"stream":"([0-9a-f]+)","seq":(\d+),')


@dataclass(slots=True)
class Tail:
    """A segment that is being read, and how far its sink has come in it."""

    path: Path
    name: Name
    position: Position
    looked_at: float = 0.0
    #: The offset of something unreadable in a live segment, and when it was seen first.
    suspect: tuple[int, float] | None = None
    foreign: bool = False


@dataclass(slots=True)
class Take:
    """What one segment gives to a batch, and where its position is when the batch is stored."""

    tail: Tail
    position: Position
    frames: list[Frame] = field(default_factory=list)
    damage: list[Entry] = field(default_factory=list)
    missing: int = 0
    finished: bool = False


class Tailer:
    """Reads the segments of one target for one sink, oldest first.

    Args:
        directory: the spool directory.
        fingerprint: only segments of this target are read.
        sink: whose positions count.
    """

    def __init__(self, directory: Path, fingerprint: str, sink: str) -> None:
        self._directory = directory
        self._fingerprint = fingerprint
        self._sink = sink
        self._tails: dict[str, Tail] = {}

    def forget(self) -> None:
        """Read the positions anew: somebody else may have moved them."""
        self._tails.clear()

    def collect(self) -> list[Take]:
        """Return the next batch."""
        takes: list[Take] = []
        room, size = BATCH_RECORDS, BATCH_BYTES
        for tail in self._known():
            try:
                take = self._read(tail, room, size)
            except FileNotFoundError:  # delivered by another sink's drainer, and deleted
                continue
            except OSError as error:
                raise_alarm("unreadable", 1, f"{tail.path.name}: {error}")
                continue
            if take is not None:
                takes.append(take)
                room -= len(take.frames)
                size -= sum(len(found.payload) for found in take.frames)
            if room <= 0 or size <= 0:
                break
        return takes

    def is_empty(self) -> bool:
        """Whether nothing is left to read. The positions on disk count: another process may be the one that reads."""
        for path in segments(self._directory):
            name = Name.parse(path.name)
            if name is None or name.fingerprint != self._fingerprint or self._is_foreign(path):
                continue
            try:
                position = Position.load(path, self._sink)
                if path.stat().st_size > position.offset or self._left_open(path, position):
                    return False
            except FileNotFoundError:  # delivered in the meantime, and deleted
                continue
        return True

    def entry(self, tail: Tail, reason: str, error: str, offset: int, data: bytes) -> Entry:
        """Return the quarantine entry for something in ``tail``."""
        return Entry(reason, error, tail.path.name, offset, self._sink, data)

    def _known(self) -> Iterator[Tail]:
        paths = segments(self._directory)
        for gone in self._tails.keys() - {path.name for path in paths}:
            del self._tails[gone]
        for path in paths:
            tail = self._tails.get(path.name)
            if tail is None:
                name = Name.parse(path.name)
                if name is None or name.fingerprint != self._fingerprint:
                    continue
                tail = self._tails[path.name] = Tail(path, name, Position.load(path, self._sink))
            if not tail.foreign:
                yield tail

    def _left_open(self, path: Path, position: Position) -> bool:
        if position.done:
            return False
        with Segment(path) as segment:
            return len(left_open(segment)) > position.resolved

    def _is_foreign(self, path: Path) -> bool:
        tail = self._tails.get(path.name)
        if tail is not None:
            return tail.foreign
        try:
            with Segment(path) as segment:
                return self._for_others(segment.header())
        except FileNotFoundError:
            return True

    def _for_others(self, header: dict[str, object] | None) -> bool:
        """Whether a header says that the segment is for newer code or another database."""
        if header is None:  # damaged: the name has said whose it is
            return False
        return header["format"] != FORMAT_VERSION or header["fingerprint"] != self._fingerprint

    def _read(self, tail: Tail, room: int, size: int) -> Take | None:
        now = time.monotonic()
        if tail.path.stat().st_size <= tail.position.offset and now - tail.looked_at < LIVENESS_S:
            return None
        tail.looked_at = now
        take = Take(tail, replace(tail.position))
        if tail.position.done:
            take.finished = True
            return take
        with Segment(tail.path) as segment:
            complete = segment.is_complete()  # asked first: what is appended after the answer is read the next time
            if not tail.position.offset and not self._begin(segment, take):
                return None
            if not self._read_frames(segment, take, room, size):
                self._read_end(segment, take, complete=complete)
            if take.finished:
                self._take_intents(segment, take, room - len(take.frames))
        return take if take.position != tail.position or take.finished else None

    def _begin(self, segment: Segment, take: Take) -> bool:
        """Take the numbers from the header of a segment that is new here; False when it is not for us."""
        header = segment.header()
        take.tail.foreign = self._for_others(header)
        position = take.position
        if header is None:
            position.headless = True
            position.first_seq = position.next_seq = 1 if take.tail.name.number == 1 else 0
        elif not take.tail.foreign:
            position.first_seq = position.next_seq = header["first_seq"]
        return not take.tail.foreign

    def _read_frames(self, segment: Segment, take: Take, room: int, size: int) -> bool:
        """Take sound frames; True when the batch is full."""
        position = take.position
        for found in segment.frames(position.offset):
            if found.kind == RECORD:
                if room <= 0 or size <= 0:
                    return True
                self._take_record(take, found)
                room -= 1
                size -= len(found.payload)
            elif found.kind == CLOSE:
                position.closed = True
                _skip_to(take, json.loads(found.payload)["seq"] + 1)
            position.offset = found.end
        return False

    def _take_record(self, take: Take, found: Frame) -> None:
        """Check stream and number of a record; one that does not belong here is quarantined."""
        match = _SEQ.match(found.payload)
        position = take.position
        if match is None or match[1].decode() != take.tail.name.stream or int(match[2]) < position.next_seq:
            error = f"a record that does not follow number {position.next_seq - 1} of this stream"
            take.damage.append(self.entry(take.tail, "sequence", error, found.offset, found.payload))
            position.quarantined += 1
            return
        _skip_to(take, int(match[2]))
        position.next_seq += 1
        position.damaged = False
        take.frames.append(found)

    def _take_intents(self, segment: Segment, take: Take, room: int) -> None:
        """Take what a dead stream left open as its last records, as many as there is room for."""
        position = take.position
        waiting = left_open(segment)[position.resolved :]
        for found in waiting[:room]:
            take.frames.append(as_record(found, position.next_seq + position.resolved))
            position.resolved += 1
        if len(waiting) > room:
            take.finished = False
            take.tail.looked_at = -LIVENESS_S  # at once again

    def _read_end(self, segment: Segment, take: Take, *, complete: bool) -> None:
        """Look at what stands behind the last sound frame: nothing, an append under way, or damage."""
        position, tail = take.position, take.tail
        end = segment.size()
        if position.offset >= end:
            take.finished = complete
            return
        if not complete and not _persists(tail, position.offset):
            return
        following = segment.resume(position.offset)
        if following is None and not complete:
            return
        stop = end if following is None else following
        data = segment.read(position.offset, stop)
        torn = following is None and is_torn(data)
        error = f"{len(data)} bytes {'of an append that was cut off' if torn else 'are no sound record'}"
        take.damage.append(self.entry(tail, "torn" if torn else "damage", error, position.offset, data))
        position.offset = stop
        position.damaged = True
        take.finished = following is None
        if take.finished and not torn:
            _skip_to(take, position.next_seq + 1)  # one record at least: no number behind says how many


def _skip_to(take: Take, seq: int) -> None:
    """Count the records that are missing before number ``seq``: they lie in damage put aside, or are lost."""
    position = take.position
    if not position.next_seq:  # the header was damaged: numbers begin with what can be read
        position.first_seq = position.next_seq = seq
    missing = seq - position.next_seq
    if missing <= 0:
        return
    if position.damaged:
        position.quarantined += missing
    else:
        position.lost += missing
        take.missing += missing
    position.next_seq = seq


def _persists(tail: Tail, offset: int) -> bool:
    """Whether the same place of a live segment has been unreadable for a while: no append takes that long."""
    now = time.monotonic()
    if tail.suspect is None or tail.suspect[0] != offset:
        tail.suspect = (offset, now)
    return now - tail.suspect[1] > LIVENESS_S
