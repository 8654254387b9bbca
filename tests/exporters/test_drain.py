from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from otel_audit.exceptions import SpoolError
from otel_audit.signals import audit_delivery_failed
from otel_audit_exporters import alarm, drain, quarantine, segments
from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import FINGERPRINT, Sink, make_record, make_records

LIMIT = 1 << 30


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def writer(directory: Path) -> Iterator[SpoolWriter]:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    yield writer
    writer.close()


@pytest.fixture
def drainer(directory: Path, sink: Sink) -> Iterator[Drainer]:
    drainer = Drainer(directory, FINGERPRINT, sink)
    yield drainer
    drainer.stop(5)


@pytest.fixture
def alarms() -> Iterator[list[dict[str, object]]]:
    heard: list[dict[str, object]] = []

    def hear(**said: object) -> None:
        heard.append({key: said[key] for key in ("reason", "count", "error")})

    audit_delivery_failed.connect(hear)
    yield heard
    audit_delivery_failed.disconnect(hear)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def test_everything_is_delivered_once_and_in_order(writer: SpoolWriter, drainer: Drainer, sink: Sink) -> None:
    records = make_records(3)
    writer.append(records)

    left = drainer.run_until_empty(5)

    assert left == 0
    assert sink.ids == [record.id for record in records]
    assert drainer.run_until_empty(5) == 0
    assert len(sink.ids) == 3


def test_a_drained_segment_of_a_closed_stream_is_deleted(directory: Path, drainer: Drainer) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(2))
    writer.close()

    drainer.run_until_empty(5)

    assert segments.segments(directory) == []
    assert not list(directory.glob("*.position"))


def test_a_drained_segment_of_a_living_writer_stays(directory: Path, writer: SpoolWriter, drainer: Drainer) -> None:
    writer.append(make_records(2))

    drainer.run_until_empty(5)

    assert len(segments.segments(directory)) == 1


def test_a_second_drainer_goes_on_where_the_first_stopped(
    directory: Path, writer: SpoolWriter, drainer: Drainer, sink: Sink
) -> None:
    writer.append(make_records(2))
    drainer.run_until_empty(5)
    later = make_record("later")
    writer.append([later])

    second = Drainer(directory, FINGERPRINT, sink)
    second.run_until_empty(5)

    assert len(sink.ids) == 3
    assert sink.ids[-1] == later.id


def test_more_than_one_batch_is_delivered_in_batches(
    writer: SpoolWriter, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    sink = Sink()
    writer.append(make_records(1100))

    Drainer(directory, FINGERPRINT, lambda payloads: (sizes.append(len(payloads)), sink(payloads))[1]).run_until_empty(
        5
    )

    assert sizes == [500, 500, 100]


def test_segments_of_several_processes_share_a_batch(directory: Path, drainer: Drainer, sink: Sink) -> None:
    writers = [SpoolWriter(directory, FINGERPRINT, LIMIT) for _ in range(3)]
    for each in writers:
        each.append(make_records(2))

    drainer.run_until_empty(5)

    assert len(sink.ids) == 6
    for each in writers:
        each.close()


def test_records_for_another_database_are_not_touched(directory: Path, drainer: Drainer, sink: Sink) -> None:
    other = SpoolWriter(directory, "fedcba9876543210", LIMIT)
    other.append(make_records(2))
    other.close()

    drainer.run_until_empty(1)

    assert sink.ids == []
    assert pending(directory)["pending"] == 2
    assert pending(directory, FINGERPRINT)["pending"] == 0


def test_a_segment_of_a_newer_format_is_left_for_the_newer_code(
    directory: Path, drainer: Drainer, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(segments, "FORMAT_VERSION", 2)
        newer.setattr(segments._checksum, "__defaults__", (2,))
        writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
        writer.append(make_records(2))
        writer.close()
    (path,) = segments.segments(directory)
    before = path.read_bytes()

    drainer.run_until_empty(0.2)

    assert sink.ids == []
    assert path.read_bytes() == before
    assert quarantine.entries(directory, FINGERPRINT) == []


def test_records_wait_while_the_sink_is_down(writer: SpoolWriter, drainer: Drainer, sink: Sink) -> None:
    sink.down = True
    writer.append(make_records(3))

    left = drainer.run_until_empty(0.2)
    sink.down = False
    left_later = drainer.run_until_empty(5)

    assert (left, left_later) == (3, 0)
    assert len(sink.ids) == 3


def test_the_thread_delivers_within_a_tenth_of_a_second(writer: SpoolWriter, drainer: Drainer, sink: Sink) -> None:
    writer.append(make_records(1))
    drainer.start()
    assert wait_for(lambda: len(sink.ids) == 1, 5)

    writer.append(make_records(1))

    assert wait_for(lambda: len(sink.ids) == 2, 0.1)


def test_the_thread_is_a_named_daemon_and_ends_when_asked(drainer: Drainer) -> None:
    drainer.start()
    thread = drainer._thread
    assert thread is not None

    left = drainer.stop(5)

    assert (thread.name, thread.daemon) == ("otel-audit-drain", True)
    assert not thread.is_alive()
    assert left == 0


def test_stopping_says_what_is_left(writer: SpoolWriter, drainer: Drainer, sink: Sink) -> None:
    sink.down = True
    writer.append(make_records(4))
    drainer.start()

    left = drainer.stop(5)

    assert left == 4


def test_the_thread_outlives_a_sink_that_raises_nonsense(
    directory: Path, writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "BACKOFF_FIRST_S", 0.01)
    sink, calls = Sink(), []

    def moody(payloads: list[bytes]) -> drain.Outcome:
        calls.append(len(payloads))
        if len(calls) < 3:
            raise ZeroDivisionError("a bug")
        return sink(payloads)

    drainer = Drainer(directory, FINGERPRINT, moody)
    writer.append(make_records(2))
    drainer.start()

    assert wait_for(lambda: len(sink.ids) == 2, 5)
    drainer.stop(5)


def test_pauses_grow_to_a_limit_while_the_sink_is_down(drainer: Drainer) -> None:
    pauses = []
    for failures in (1, 2, 5, 50):
        drainer._failures = failures
        pauses.append(drainer._backoff())

    assert 0.1 <= pauses[0] <= 0.2
    assert 0.2 <= pauses[1] <= 0.4
    assert 1.6 <= pauses[2] <= 3.2
    assert 7.5 <= pauses[3] <= 15


def test_one_drainer_per_directory_works_and_the_other_takes_over(
    directory: Path, writer: SpoolWriter, drainer: Drainer, sink: Sink
) -> None:
    second_sink = Sink()
    second = Drainer(directory, FINGERPRINT, second_sink)
    drainer.start()
    assert wait_for(lambda: drainer._lock_fd >= 0, 2)
    second.start()
    writer.append(make_records(1))
    assert wait_for(lambda: len(sink.ids) == 1, 2)

    drainer.stop(5)
    writer.append(make_records(1))

    assert wait_for(lambda: len(second_sink.ids) == 1, 2)
    assert len(sink.ids) == 1
    second.stop(5)


def test_flushing_waits_for_the_holder_in_another_process(
    directory: Path, writer: SpoolWriter, drainer: Drainer, sink: Sink
) -> None:
    drainer.start()
    assert wait_for(lambda: drainer._lock_fd >= 0, 2)
    writer.append(make_records(5))

    left = Drainer(directory, FINGERPRINT, Sink()).run_until_empty(5)

    assert left == 0
    assert len(sink.ids) == 5


def test_a_refused_record_goes_to_quarantine_and_the_others_arrive(
    directory: Path, writer: SpoolWriter, drainer: Drainer, sink: Sink, alarms: list[dict[str, object]]
) -> None:
    records = make_records(5)
    sink.poison = {records[2].id}
    writer.append(records)

    left = drainer.run_until_empty(5)

    (entry,) = quarantine.entries(directory, FINGERPRINT)
    assert left == 0
    assert len(sink.ids) == 4
    assert entry.reason == "poison"
    assert entry.segment == segments.segments(directory)[0].name
    assert records[2].id.encode() in entry.data
    assert [heard["reason"] for heard in alarms] == ["poison"]


def test_the_quarantine_can_be_tried_again(directory: Path, writer: SpoolWriter, drainer: Drainer, sink: Sink) -> None:
    records = make_records(3)
    sink.poison = {records[0].id, records[1].id}
    writer.append(records)
    drainer.run_until_empty(5)
    sink.poison = {records[1].id}

    released = quarantine.retry(directory, FINGERPRINT, sink)

    assert released == 1
    assert sink.ids == [records[2].id, records[0].id]
    assert len(quarantine.entries(directory, FINGERPRINT)) == 1
    counts = pending(directory)
    assert (counts["stored"], counts["quarantined"]) == (2, 1)


def test_the_books_balance_while_records_are_everywhere(
    directory: Path, writer: SpoolWriter, drainer: Drainer, sink: Sink
) -> None:
    closed = SpoolWriter(directory, FINGERPRINT, LIMIT)
    records = make_records(10)
    sink.poison = {records[4].id}
    closed.append(records)
    closed.close()
    writer.append(make_records(7))
    drainer.run_until_empty(5)
    writer.append(make_records(2))

    counts = pending(directory)

    assert counts["captured"] == 19
    assert (counts["stored"], counts["pending"], counts["quarantined"], counts["lost"]) == (16, 2, 1, 0)


def test_a_missing_number_is_a_loss_that_is_said(
    directory: Path, writer: SpoolWriter, drainer: Drainer, alarms: list[dict[str, object]]
) -> None:
    writer.append(make_records(1))
    writer._seq += 3
    writer.append(make_records(1))

    drainer.run_until_empty(5)

    assert pending(directory)["lost"] == 3
    assert [(heard["reason"], heard["count"]) for heard in alarms] == [("gap", 3)]


def test_a_segment_that_somebody_removed_is_a_loss_that_is_said(
    directory: Path, drainer: Drainer, alarms: list[dict[str, object]]
) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT, segment_bytes=3000)
    for record in make_records(15):
        writer.append([record])
    writer.close()
    paths = segments.segments(directory)
    assert len(paths) > 2
    paths[1].unlink()

    drainer.run_until_empty(5)

    counts = pending(directory)
    assert counts["lost"] > 0
    assert counts["captured"] == 15
    assert [heard["reason"] for heard in alarms] == ["gap"]


def test_a_stream_that_ended_without_closing_is_reported(
    directory: Path, drainer: Drainer, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(2))
    os.close(writer._fd)  # as the kernel does when the process is killed
    writer._fd = -1

    drainer.run_until_empty(5)

    assert len(sink.ids) == 2
    assert pending(directory)["unclosed_streams"] == 1
    assert "ended without closing" in caplog.text
    assert segments.segments(directory) == []


def test_an_unusable_directory_is_told_at_start(directory: Path, sink: Sink) -> None:
    directory.mkdir()
    directory.chmod(0o755)

    with pytest.raises(SpoolError, match="chmod 700"):
        Drainer(directory, FINGERPRINT, sink).start()


def test_a_directory_that_is_not_there_is_empty(tmp_path: Path) -> None:
    counts = pending(tmp_path / "nowhere")

    assert set(counts.values()) == {0}


def test_a_torn_position_begins_again_and_counts_right(
    directory: Path, writer: SpoolWriter, drainer: Drainer, sink: Sink
) -> None:
    writer.append(make_records(3))
    drainer.run_until_empty(5)
    (position,) = directory.glob("*.position")
    position.write_bytes(position.read_bytes()[:20])

    Drainer(directory, FINGERPRINT, sink).run_until_empty(5)

    assert len(sink.ids) == 6  # the sink inserts each once
    assert pending(directory)["stored"] == 3


def test_a_segment_waits_for_the_sink_that_is_not_done(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(3))
    writer.close()
    sinks = {name: Sink() for name in ("database", "otlp")}
    drainers = {
        name: Drainer(directory, FINGERPRINT, each, sink=name, sinks=("database", "otlp"))
        for name, each in sinks.items()
    }

    drainers["database"].run_until_empty(5)
    kept = len(segments.segments(directory))
    drainers["otlp"].run_until_empty(5)

    assert kept == 1
    assert segments.segments(directory) == []
    assert [len(each.ids) for each in sinks.values()] == [3, 3]
    assert pending(directory)["stored"] == 3


def test_an_alarm_is_raised_at_first_and_then_counts_for_a_minute(
    alarms: list[dict[str, object]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(alarm.time, "monotonic", lambda: clock[0])

    for _ in range(5):
        alarm.raise_alarm("outage", 10, "down\nagain")
    clock[0] += 61
    alarm.raise_alarm("outage", 10, "still down")

    assert [heard["count"] for heard in alarms] == [10, 50]
    assert "down again" in caplog.messages[0]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_a_receiver_that_raises_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def broken(**said: object) -> None:
        raise ValueError("not my day")

    audit_delivery_failed.connect(broken)
    try:
        alarm.raise_alarm("outage", 1, "down")
    finally:
        audit_delivery_failed.disconnect(broken)

    assert "A receiver of audit_delivery_failed raised" in caplog.text


def test_a_fork_does_not_keep_the_lock_of_a_dead_holder(directory: Path) -> None:
    program = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["otel_audit"], DATABASES={})
django.setup()
from otel_audit_exporters.drain import Drainer
drainer = Drainer(Path(sys.argv[1]), "0123456789abcdef", None)
drainer.start()
while drainer._lock_fd < 0:
    time.sleep(0.01)
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(30)
    os._exit(0)
print(child, flush=True)
os._exit(9)
"""
    directory.mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory)], check=False, stdout=subprocess.PIPE, text=True, timeout=20
    )

    heir = Drainer(directory, FINGERPRINT, Sink())
    try:
        assert done.returncode == 9
        assert heir._take_lock()
    finally:
        os.kill(int(done.stdout), 9)
        heir.stop(1)


def test_a_directory_that_is_removed_and_made_anew_is_drained_again(
    directory: Path, drainer: Drainer, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    drainer.start()
    writer.append(make_records(1))
    assert wait_for(lambda: len(sink.ids) == 1, 5)

    def remove() -> bool:
        shutil.rmtree(directory, ignore_errors=True)  # the drainer may just be writing its position
        return not directory.exists()

    assert wait_for(remove, 5)
    writer.append(make_records(1))

    assert wait_for(lambda: len(sink.ids) == 2, 10)
    assert "somebody removed a segment" in caplog.text
    drainer.stop(5)
    writer.close()


def test_a_receiver_of_the_signal_may_flush(directory: Path, writer: SpoolWriter, drainer: Drainer, sink: Sink) -> None:
    left: list[int] = []

    def flush(**said: object) -> None:
        left.append(drainer.run_until_empty(5))

    records = make_records(2)
    sink.poison = {records[0].id}
    audit_delivery_failed.connect(flush)
    try:
        writer.append(records)
        drainer.start()
        began = time.monotonic()
        assert wait_for(lambda: bool(left), 5)
    finally:
        audit_delivery_failed.disconnect(flush)

    assert left == [0]
    assert time.monotonic() - began < 2


def test_what_a_writer_left_that_died_before_its_segment_had_a_name_is_removed(
    directory: Path, writer: SpoolWriter, drainer: Drainer
) -> None:
    writer.append(make_records(1))
    (path,) = segments.segments(directory)
    old, new = (directory / f".{path.name.replace('-0001-', number)}" for number in ("-0007-", "-0008-"))
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (0, 0))

    drainer.run_until_empty(5)

    assert (old.exists(), new.exists()) == (False, True)


def test_segments_of_one_stream_sort_by_number_also_when_the_clock_steps_back(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [datetime(2026, 11, 24, 12, tzinfo=UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            clock[0] -= timedelta(hours=1)
            return clock[0]

    monkeypatch.setattr("otel_audit_exporters.spool.datetime", Clock)
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT, segment_bytes=1000)
    for record in make_records(6):
        writer.append([record])
    writer.close()

    numbers = [name.number for path in segments.segments(directory) if (name := segments.Name.parse(path.name))]

    assert numbers == sorted(numbers)
    assert len(numbers) > 2


def test_a_segment_that_gets_its_name_just_now_is_no_trouble(
    directory: Path, writer: SpoolWriter, drainer: Drainer, sink: Sink, alarms: list[dict[str, object]]
) -> None:
    writer.append(make_records(1))
    # Listed, and gone when it is looked at.
    (directory / f".20261124T100000000000-1-{'0' * 16}-0001-{FINGERPRINT}.segment").symlink_to("renamed")

    left = drainer.run_until_empty(5)

    assert (left, len(sink.ids), alarms) == (0, 1, [])
