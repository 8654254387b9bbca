"""Counting what waits, again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_audit_exporters import segments
from otel_audit_exporters.accounts import pending
from otel_audit_exporters.backlog import Backlog
from otel_audit_exporters.drain import Drainer
from otel_audit_exporters.segments import Segment
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import FINGERPRINT, Sink, make_records


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_the_backlog_is_what_the_exact_count_says(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30, segment_bytes=2000)
    other = SpoolWriter(directory, "fedcba9876543210", 1 << 30)
    other.append(make_records(2))
    backlog = Backlog(directory, FINGERPRINT, "database")
    sink = Sink()
    told: list[tuple[int, int]] = []

    def tell() -> None:
        told.append((backlog.count(), pending(directory, FINGERPRINT)["pending"]))

    tell()
    for _ in range(8):
        writer.append(make_records(3))
    tell()
    Drainer(directory, FINGERPRINT, sink).run_until_empty(10)
    tell()
    writer.append(make_records(5))
    tell()
    writer.append(make_records(1))
    tell()
    writer.close()
    Drainer(directory, FINGERPRINT, sink).run_until_empty(10)
    tell()
    other.close()

    assert [counted for counted, _ in told] == [0, 24, 0, 5, 6, 0]
    assert [counted for counted, _ in told] == [exact for _, exact in told]


def test_each_sink_has_a_backlog_of_its_own(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    writer.append(make_records(4))
    Drainer(directory, FINGERPRINT, Sink(), sinks=("database", "otlp")).run_until_empty(10)

    counts = [Backlog(directory, FINGERPRINT, sink).count() for sink in ("database", "otlp")]

    assert counts == [0, 4]
    writer.close()


def test_what_was_counted_is_not_read_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    writer.append(make_records(50))
    backlog = Backlog(directory, FINGERPRINT, "database")
    backlog.count()
    read: list[int] = []
    frames = Segment.frames
    monkeypatch.setattr(
        segments.Segment, "frames", lambda self, offset: (read.append(1) or each for each in frames(self, offset))
    )
    writer.append(make_records(2))

    count = backlog.count()

    assert count == 52
    assert len(read) == 2
    writer.close()
