"""A disk that is really full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_audit.exceptions import SpoolError
from otel_audit_exporters import drain
from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.segments import segments
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import FINGERPRINT, Sink, make_record, make_records


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the mount point of a file system of 512 KiB."""
    point = tmp_path / "disk"
    point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "tmpfs", str(point)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def fill(disk: Path) -> Path:
    """Let somebody else take all the space that is left."""
    path = disk / "somebody-else"
    with pytest.raises(OSError, match="No space left"), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return path


def test_a_full_disk_is_drained_and_recording_goes_on(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "BACKOFF_FIRST_S", 0.01)
    directory, sink, acknowledged = small_disk / "spool", Sink(), []
    drainer = Drainer(directory, FINGERPRINT, sink)
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30, segment_bytes=20_000)
    writer.append(first := make_records(1))
    drainer.run_until_empty(5)  # has been here before, as ever but on the first day
    with pytest.raises(SpoolError, match="No space left"):
        while True:
            record = make_record("x" * 300)
            writer.append([record])
            acknowledged.append(record.id)
    other = fill(small_disk)
    writer.record_loss({"spool_full": 1})

    left = drainer.run_until_empty(20)
    writer.append(last := make_records(1))
    other.unlink()
    writer.close()
    drainer.run_until_empty(5)

    counts = pending(directory, FINGERPRINT)
    assert left == 0
    assert len(acknowledged) > 100
    # A batch whose position could not be saved comes again; the database takes each record once.
    assert list(dict.fromkeys(sink.ids)) == [first[0].id, *acknowledged, last[0].id]
    total = len(acknowledged) + 2
    assert (counts["captured"], counts["stored"], counts["lost"]) == (total + 1, total, 1)
    assert segments(directory) == []
