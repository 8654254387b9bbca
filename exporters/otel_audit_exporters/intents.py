"""Requests that have begun: what is left of one whose process was killed in it.

Before the view runs, an intent is appended to the segment, under the id that the request's record will have. That
record completes it by being appended; a frame of its own does where there is no record in this stream, as the policy
left the request out, or its record went another way. So one append ends a request, and there is no moment between.

A new segment begins with a copy of all intents that are open, made before it gets its name. So no intent keeps a
segment from being delivered and deleted, however long its request takes, and the last segment of a stream alone
says which are open. They count when that segment's lock is free and no later one is there: its process is dead, as
a writer holds its lock for as long as a request of its own is open. Then, behind the last record, the drain stores
them as requests whose outcome is not known. A crash of the drain repeats that; the id is there already then, as
it is when the request's own record reached the database past the spool, and an intent whose id is there is done.
"""

from __future__ import annotations

import json
from typing import Final

from otel_audit_exporters.segments import DONE, INTENT, RECORD, Frame, Name, Segment, segments

__all__ = ["as_record", "left_open", "open_intents"]

#: Behind it, in a captured text, stand names and ids alone, in which no text of a client can look like a key.
_ID: Final = b'"id":"'
_SEQ: Final = b'"seq":0,'


def left_open(segment: Segment) -> list[Frame]:
    """Return the intents that a dead stream left open in ``segment``; none while it lives, or has a later segment."""
    if not segment.is_complete():  # asked first: a writer that goes on has made its next segment by then
        return []
    name = segment.name
    others = (Name.parse(path.name) for path in segments(segment.path.parent))
    if any(other.stream == name.stream and other.number > name.number for other in others if other is not None):
        return []
    return open_intents(segment)


def open_intents(segment: Segment) -> list[Frame]:
    """Return the intents in ``segment`` that nothing in it completes, oldest first; damage is skipped."""
    found: dict[bytes, Frame] = {}
    offset: int | None = 0
    while offset is not None:
        for frame in segment.frames(offset):
            offset = frame.end
            if frame.kind == INTENT:
                found[_id_of(frame.payload)] = frame
            elif frame.kind == RECORD and found:
                found.pop(_id_of(frame.payload), None)
            elif frame.kind == DONE:
                for record_id in json.loads(frame.payload)["facts"]["ids"]:
                    found.pop(record_id.encode("ascii"), None)
        offset = segment.resume(offset)
    return list(found.values())


def as_record(intent: Frame, seq: int) -> Frame:
    """Return an intent as the record with number ``seq``."""
    payload = intent.payload.replace(_SEQ, b'"seq":%d,' % seq, 1)
    return Frame(RECORD, payload, intent.offset, intent.end)


def _id_of(payload: bytes) -> bytes:
    _, _, rest = payload.rpartition(_ID)
    return rest[: rest.find(b'"')]
