"""Segments that a power loss has cut off or a disk has changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from otel_audit_exporters import quarantine, tailing
from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.segments import HEAD_SIZE, RECORD, Segment, segments
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import FINGERPRINT, Sink, make_record, make_records

COUNT = 4


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """Return a spool directory with one segment of a writer that was killed after four records."""
    directory = tmp_path / "original"
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    for record in make_records(COUNT):
        writer.append([record])
    kill(writer)
    return directory


def kill(writer: SpoolWriter) -> None:
    """Do what the kernel does for a process that is killed."""
    os.close(writer._fd)
    writer._fd = -1
    writer._closed = True


def the_segment(directory: Path) -> Path:
    (path,) = segments(directory)
    return path


def record_frames(path: Path) -> list[tuple[int, int]]:
    with Segment(path) as segment:
        return [(frame.offset, frame.end) for frame in segment.frames(0) if frame.kind == RECORD]


def drained(original: Path, directory: Path, data: bytes) -> Sink:
    """Drain a copy of ``original`` whose segment holds ``data``."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(original, directory)
    the_segment(directory).write_bytes(data)
    sink = Sink()
    assert Drainer(directory, FINGERPRINT, sink).run_until_empty(10) == 0
    return sink


@pytest.mark.usefixtures("_no_sync")
def test_a_segment_cut_at_any_byte_gives_the_records_before_the_cut(original: Path, directory: Path) -> None:
    data = the_segment(original).read_bytes()
    frames = record_frames(the_segment(original))

    for cut in range(frames[-2][0], len(data)):
        sink = drained(original, directory, data[:cut])

        whole = sum(end <= cut for _, end in frames)
        torn = cut not in {end for _, end in frames}
        found = quarantine.entries(directory, FINGERPRINT)
        assert len(sink.ids) == whole, cut
        assert [entry.reason for entry in found] == ["torn"] * torn, cut
        assert pending(directory)["captured"] == whole


def test_a_tail_of_empty_blocks_is_cut(original: Path, directory: Path) -> None:
    """A power loss can leave a file longer than what was written to it."""
    data = the_segment(original).read_bytes()

    sink = drained(original, directory, data + bytes(4096))

    assert len(sink.ids) == COUNT
    assert [entry.reason for entry in quarantine.entries(directory, FINGERPRINT)] == ["torn"]


@pytest.mark.usefixtures("_no_sync")
def test_a_flipped_bit_anywhere_costs_no_other_record_and_is_kept(original: Path, directory: Path) -> None:
    data = the_segment(original).read_bytes()
    frames = record_frames(the_segment(original))

    heads = {place for start, _ in frames for place in range(start, start + HEAD_SIZE)}
    for place in sorted(heads | set(range(0, len(data), 9))):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8

        sink = drained(original, directory, bytes(flipped))

        hit = any(start <= place < end for start, end in frames)
        counts = pending(directory)
        (entry,) = quarantine.entries(directory, FINGERPRINT)
        assert len(sink.ids) == COUNT - hit, place
        assert flipped[entry.offset : entry.offset + len(entry.data)] == entry.data
        assert entry.offset <= place < entry.offset + len(entry.data)
        assert counts["captured"] == COUNT, place
        assert (counts["stored"], counts["quarantined"], counts["lost"]) == (COUNT - hit, int(hit), 0), place


def test_damage_in_a_living_segment_does_not_hold_up_what_comes_after(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "LIVENESS_S", 0.05)
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    writer.append(make_records(3))
    path = the_segment(directory)
    start, end = record_frames(path)[1]
    with path.open("r+b") as file:
        file.seek((start + end) // 2)
        file.write(b"\x00\x00")
    sink = Sink()

    left = Drainer(directory, FINGERPRINT, sink).run_until_empty(5)

    counts = pending(directory)
    assert left == 0
    assert len(sink.ids) == 2
    assert (counts["captured"], counts["quarantined"]) == (3, 1)
    writer.close()


def test_a_damaged_header_of_a_later_segment_costs_nothing(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30, segment_bytes=2000)
    for record in make_records(8):
        writer.append([record])
    writer.close()
    second = segments(directory)[1]
    with second.open("r+b") as file:
        file.seek(20)
        file.write(b"\xff")
    sink = Sink()

    Drainer(directory, FINGERPRINT, sink).run_until_empty(5)

    counts = pending(directory)
    assert len(sink.ids) == 8
    assert (counts["captured"], counts["stored"], counts["lost"]) == (8, 8, 0)


def test_a_record_that_was_copied_into_another_stream_is_not_believed(directory: Path) -> None:
    victim = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    victim.append(make_records(1))
    other = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    other.append([make_record("moved")])
    mine, theirs = (next(p for p in segments(directory) if w.stream in p.name) for w in (victim, other))
    start, end = record_frames(theirs)[0]
    moved = theirs.read_bytes()[start:end]
    with mine.open("ab") as file:
        file.write(moved)
    sink = Sink()

    Drainer(directory, FINGERPRINT, sink).run_until_empty(5)

    assert len(sink.ids) == 2
    assert [entry.reason for entry in quarantine.entries(directory, FINGERPRINT)] == ["sequence"]
    kill(victim)
    other.close()


def test_damaged_books_are_put_aside_and_delivery_goes_on(directory: Path) -> None:
    sink = Sink()
    for _ in range(2):
        writer = SpoolWriter(directory, FINGERPRINT, 1 << 30)
        writer.append(make_records(2))
        writer.close()
        Drainer(directory, FINGERPRINT, sink).run_until_empty(5)
        (books,) = directory.glob("accounts-*.json")
        books.write_bytes(books.read_bytes()[:10])

    pending(directory)

    assert len(sink.ids) == 4
    assert len(list(directory.glob("accounts-*.damaged"))) == 1
