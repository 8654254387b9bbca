"""How many records wait for a sink, asked again and again: what was counted once is not read again.

`otel_audit_exporters.accounts.pending` counts exactly, and reads all that waits each time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from otel_audit_exporters.accounts import Position
from otel_audit_exporters.segments import RECORD, Name, Segment, segments

__all__ = ["Backlog"]

_SEQ: Final = re.compile(rb'"seq":(\d+)')
#: The number stands in the provenance, in front of what was captured.
_PROVENANCE: Final = 100


class Backlog:
    """The records of one target that wait for one sink; damage counts by the numbers that are missing."""

    def __init__(self, directory: Path, fingerprint: str, sink: str) -> None:
        self._directory = directory
        self._fingerprint = fingerprint
        self._sink = sink
        #: Segment → up to where it was read, and the number of the last record there.
        self._read: dict[str, tuple[int, int]] = {}

    def count(self) -> int:
        """Return how many records wait now."""
        known: dict[str, tuple[int, int]] = {}
        waiting = 0
        for path in segments(self._directory):
            name = Name.parse(path.name)
            if name is None or name.fingerprint != self._fingerprint:
                continue
            position = Position.load(path, self._sink)
            try:
                with Segment(path) as segment:
                    next_seq = position.next_seq if position.offset else _first_seq(segment)
                    offset, last = max(self._read.get(path.name, (0, 0)), (position.offset, next_seq - 1))
                    for frame in segment.frames(offset):
                        offset = frame.end
                        if frame.kind == RECORD and (match := _SEQ.search(frame.payload, 0, _PROVENANCE)) is not None:
                            last = int(match[1])
            except FileNotFoundError:  # delivered in the meantime, and deleted
                continue
            known[path.name] = (offset, last)
            waiting += max(0, last - next_seq + 1)
        self._read = known
        return waiting


def _first_seq(segment: Segment) -> int:
    header = segment.header() or {}
    return int(header.get("first_seq", 1))
