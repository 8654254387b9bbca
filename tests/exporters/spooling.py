"""Records and spool directories for the tests of the delivery."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from otel_audit.ids import record_id
from otel_audit_exporters.envelope import Record, capture, parse, seal
from otel_audit_exporters.segments import RECORD, Segment, segments
from otel_audit_exporters.writer import Outcome, Rejection, RetryLaterError

FINGERPRINT = "0123456789abcdef"


def make_record(name: str = "checked", *, identity: str | None = None, **facts: Any) -> Record:
    """Return a registration, the smallest record."""
    return capture(
        {
            "v": 1,
            "type": "event",
            "kind": "registration",
            "id": identity or record_id(),
            "service": "shop",
            "ids": {"request": None, "process": None, "step": None},
            "span": {"trace_id": "", "span_id": ""},
            "facts": {"name": name, "success": True, "at": "1790000000000000000", "actor": None, **facts},
        }
    )


def make_records(count: int) -> list[Record]:
    """Return ``count`` different records."""
    return [make_record(f"number {number}") for number in range(count)]


def spooled(directory: Path) -> list[dict[str, Any]]:
    """Return the envelopes that lie in a spool directory, oldest first."""
    found = []
    for path in segments(directory):
        with Segment(path) as segment:
            found += [parse(frame.payload) for frame in segment.frames(0) if frame.kind == RECORD]
    return found


class Sink:
    """Takes what a drainer delivers; fails as told."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.down = False
        self.poison: set[str] = set()

    def __call__(self, payloads: Sequence[bytes]) -> Outcome:
        """Store the ids of ``payloads``."""
        if self.down:
            raise RetryLaterError("the sink is down")
        ids = [json.loads(payload)["id"] for payload in payloads]
        refused = [Rejection(index, "poison", "told so") for index, one in enumerate(ids) if one in self.poison]
        self.ids += [one for one in ids if one not in self.poison]
        return Outcome(len(ids) - len(refused), refused)


def make_process(name: str = "Ship an order", **span: Any) -> bytes:
    """Return the sealed record of a process in a trace of its own, as a drainer hands it over."""
    return seal(process_record(name, **span), "0" * 16, 1, "2026-11-24T10:00:00.000000+00:00")


def process_record(name: str = "Ship an order", **span: Any) -> Record:
    """Return the record of a process in a trace of its own."""
    identity = record_id()
    plain = identity.replace("-", "")
    return capture(
        {
            "v": 1,
            "type": "span",
            "kind": "process",
            "id": identity,
            "service": "shop",
            "ids": {"request": None, "process": identity, "step": None},
            "span": {
                "name": name,
                "trace_id": plain,
                "span_id": plain[16:],
                "parent_span_id": "",
                "start": "1790000000000000000",
                "end": "1790000000001000000",
                "status": "UNSET",
                **span,
            },
            "facts": {"actor": None, "attributes": {}, "order": None},
        }
    )


def _a_file(path: Path) -> None:
    path.write_text("a file stands in its place")


def _a_symbolic_link(path: Path) -> None:
    real = path.with_name("real")
    real.mkdir(mode=0o700)
    path.symlink_to(real)


def _open_to_others(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


def _of_somebody_else(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 4242, -1)


def _read_only(path: Path) -> None:
    path.mkdir(mode=0o500)


#: What may stand where the spool directory should be, and is none: each makes it.
UNUSABLE = [
    _a_file,
    _a_symbolic_link,
    _open_to_others,
    pytest.param(
        _of_somebody_else, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    ),
    pytest.param(_read_only, marks=pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")),
]
