"""The wall clock steps back, an hour comes twice, a second is one too many: nothing is lost by it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from otel_audit import process
from otel_audit.testing import AuditRecords, capture
from otel_audit_exporters.accounts import oldest_pending
from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import FINGERPRINT, Sink, make_records

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def records() -> Iterator[AuditRecords]:
    with capture() as found:
        yield found


@pytest.fixture
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Move the process, as a careless administrator does with a server."""
    with monkeypatch.context() as moved:
        moved.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def test_a_stream_whose_clock_steps_back_is_delivered_once_and_in_order(directory: Path) -> None:
    records, sink = make_records(6), Sink()
    with time_machine.travel(NOON) as clock:
        writer = SpoolWriter(directory, FINGERPRINT, 1 << 30, segment_bytes=1000)
        writer.append(records[:3])
        clock.move_to(NOON - HOUR)
        for record in records[3:]:
            writer.append([record])
        writer.close()
        later = SpoolWriter(directory, FINGERPRINT, 1 << 30)
        later.close()

        waits_since = oldest_pending(directory, FINGERPRINT)
        left = Drainer(directory, FINGERPRINT, sink).run_until_empty(10)

    assert waits_since is not None
    assert left == 0
    assert sink.ids == [record.id for record in records]
    assert pending(directory)["lost"] == 0


def test_a_step_that_is_older_than_its_process_belongs_to_it(records: AuditRecords) -> None:
    with time_machine.travel(NOON, tick=False) as clock, process("Bake") as baking:
        clock.move_to(NOON - HOUR)
        with baking.step("mix") as mixing:
            mixing.register(True, "flour")

    (row,), (step,), (registration,) = records.processes, records.steps, records.registrations
    assert (step.process_id, registration.step_id) == (row.id, step.id)
    assert row.datetime - step.datetime == row.datetime - registration.datetime == HOUR
    assert 0 <= step.duration_ms <= row.duration_ms < 60_000


@pytest.mark.usefixtures("_in_berlin")
@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),  # 02:30 for the first time
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),  # 02:30 once more
        datetime(2026, 3, 29, 0, 59, 59, 999_999, tzinfo=UTC),  # the last microsecond before 03:00
        datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),  # a leap second follows
    ],
)
def test_a_time_is_told_without_doubt(records: AuditRecords, moment: datetime) -> None:
    with time_machine.travel(moment, tick=False), process("Bake") as baking, baking.step("mix") as mixing:
        mixing.register(True, "flour")

    assert {row.datetime for row in records} == {moment}
    assert {row.datetime.utcoffset() for row in records} == {timedelta(0)}
