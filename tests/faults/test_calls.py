"""Every system call of append, rotate and drain fails once, or is the last that the process made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from otel_audit.exceptions import SpoolError
from otel_audit_exporters import drain, quarantine
from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import FINGERPRINT, Sink, make_records
from tests.faults.shims import Killed, calls
from tests.faults.test_damage import kill

RECORDS = make_records(12)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(drain, "POLL_S", 0.001)
    # The background sync is its own room; here its calls would come at random moments.
    monkeypatch.setattr("otel_audit_exporters.flusher.Flusher.want", lambda self: None)


def append_and_rotate(directory: Path, acknowledged: list[str]) -> None:
    """Append twelve records to several segments and close; note what was acknowledged."""
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30, segment_bytes=2000)
    try:
        for record in RECORDS:
            with suppress(SpoolError):
                writer.append([record])
                acknowledged.append(record.id)
        writer.close()
    except Killed:
        kill_if_open(writer)
        raise


def kill_if_open(writer: SpoolWriter) -> None:
    if writer._fd >= 0:
        kill(writer)


def count_of(run: Callable[[], object]) -> int:
    with calls() as counting:
        run()
    return counting.number


@pytest.mark.usefixtures("_no_sync")
@pytest.mark.parametrize("fatal", [False, True], ids=["fails", "kills"])
def test_any_call_of_append_and_rotate(tmp_path: Path, fatal: bool) -> None:
    total = count_of(lambda: append_and_rotate(tmp_path / "count", []))
    assert total > 30

    for at in range(total):
        directory, acknowledged, sink = tmp_path / str(at), [], Sink()

        with calls(at, kill=fatal), suppress(Killed):
            append_and_rotate(directory, acknowledged)
        left = Drainer(directory, FINGERPRINT, sink).run_until_empty(10) if directory.exists() else 0

        known = {record.id for record in RECORDS}
        counts = pending(directory, FINGERPRINT)
        assert left == 0, at
        assert set(acknowledged) <= set(sink.ids) <= known, at
        assert len(sink.ids) == len(set(sink.ids)), at
        assert len(sink.ids) - len(acknowledged) <= 1, at
        assert (counts["captured"], counts["stored"]) == (len(sink.ids), len(sink.ids)), at
        if not fatal:
            assert len(acknowledged) >= len(RECORDS) - 1, at


def drain_with_poison(directory: Path, sink: Sink) -> Drainer:
    drainer = Drainer(directory, FINGERPRINT, sink)
    drainer.run_until_empty(5)
    return drainer


@pytest.mark.usefixtures("_no_sync")
@pytest.mark.parametrize("fatal", [False, True], ids=["fails", "kills"])
def test_any_call_of_the_drain(tmp_path: Path, fatal: bool) -> None:
    def prepared(name: str) -> tuple[Path, Sink]:
        directory, sink = tmp_path / name, Sink()
        append_and_rotate(directory, [])
        sink.poison = {RECORDS[5].id}
        return directory, sink

    counted, sink = prepared("count")
    total = count_of(lambda: drain_with_poison(counted, sink))
    assert total > 30

    for at in range(total):
        directory, sink = prepared(str(at))

        with calls(at, kill=fatal), suppress(Killed, OSError):  # who cannot look does not say that nothing is left
            drain_with_poison(directory, sink)
        left = drain_with_poison(directory, sink).left()

        counts = pending(directory, FINGERPRINT)
        assert left == 0, at
        assert set(sink.ids) == {record.id for record in RECORDS} - sink.poison, at
        assert len(quarantine.entries(directory, FINGERPRINT)) == 1, at
        assert (counts["captured"], counts["stored"], counts["quarantined"]) == (12, 11, 1), at
