from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_audit.exceptions import SpoolError
from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.segments import segments
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import FINGERPRINT, Sink, make_record, make_records

LIMIT = 1 << 30


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def always(directory: Path) -> Iterator[SpoolWriter]:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT, fsync="always")
    yield writer
    writer.close()


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def flush_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "otel-audit-flush"]


def test_a_durable_record_was_synced_before_the_wait_ends(always: SpoolWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real_sync = os.fdatasync

    def note(fd: int) -> None:
        size = os.fstat(fd).st_size
        real_sync(fd)
        synced.append(size)

    monkeypatch.setattr(os, "fdatasync", note)

    always.wait_durable(always.append(make_records(1)), 5)

    assert synced[-1] == segments(always.directory)[0].stat().st_size


def test_many_threads_share_a_sync(always: SpoolWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = []
    real_sync = os.fdatasync

    def slow(fd: int) -> None:
        syncs.append(fd)
        time.sleep(0.005)
        real_sync(fd)

    monkeypatch.setattr(os, "fdatasync", slow)

    def work() -> None:
        for _ in range(5):
            always.wait_durable(always.append([make_record()]), 10)

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(syncs) < 32


def test_an_event_loop_is_told_without_a_waiting_thread(always: SpoolWriter) -> None:
    told = threading.Event()
    errors: list[OSError | None] = []

    def durable(error: OSError | None) -> None:
        errors.append(error)
        told.set()

    always.when_durable(always.append(make_records(1)), durable)

    assert told.wait(5)
    assert errors == [None]


def test_what_is_on_the_disk_already_is_told_at_once(always: SpoolWriter) -> None:
    seq = always.append(make_records(1))
    always.wait_durable(seq, 5)
    answers: list[OSError | None] = []

    always.when_durable(seq, answers.append)

    assert answers == [None]


def test_in_the_background_appends_of_a_tenth_of_a_second_share_a_sync(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(1))
    assert wait_for(lambda: writer._flusher._durable == 1, 5)
    monkeypatch.setattr(os, "fdatasync", syncs.append)

    for record in make_records(50):
        writer.append([record])

    assert wait_for(lambda: writer._flusher._durable == 51, 1)
    assert len(syncs) <= 2
    writer.close()


def test_a_disk_that_refuses_is_told_and_the_segment_is_given_up(
    always: SpoolWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    always.wait_durable(always.append(make_records(1)), 5)
    failed = []

    def fail_once(fd: int) -> None:
        if not failed:
            failed.append(fd)
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail_once)

    seq = always.append(make_records(1))
    with pytest.raises(SpoolError, match="Input/output error"):
        always.wait_durable(seq, 5)
    assert wait_for(lambda: len(segments(always.directory)) == 2, 5)
    always.wait_durable(always.append(make_records(1)), 5)
    answers: list[OSError | None] = []
    always.when_durable(seq, answers.append)

    assert isinstance(answers[0], OSError)  # a later success does not make it durable
    assert "a new segment is begun" in caplog.text


def test_records_of_a_segment_that_was_given_up_are_delivered_all_the_same(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        writer._flusher.sync()
    writer.append(make_records(2))
    writer.close()
    sink = Sink()

    Drainer(directory, FINGERPRINT, sink).run_until_empty(5)

    counts = pending(directory)
    assert len(sink.ids) == 4
    assert (counts["captured"], counts["lost"], counts["unclosed_streams"]) == (4, 0, 0)


def test_waiting_for_a_disk_that_does_not_answer_ends_in_time(
    always: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    always.append(make_records(1))
    monkeypatch.setattr(os, "fdatasync", lambda fd: release.wait(10))
    seq = always.append(make_records(1))

    with pytest.raises(SpoolError, match="did not answer within"):
        always.wait_durable(seq, 0.05)

    release.set()


def test_the_thread_starts_with_the_first_record_and_ends_with_the_writer(directory: Path) -> None:
    before = len(flush_threads())
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    idle = len(flush_threads())

    writer.append(make_records(1))
    running = flush_threads()
    writer.close()

    assert idle == before
    assert len(running) == before + 1
    assert all(thread.daemon for thread in running)
    assert len(flush_threads()) == before


def test_without_threads_the_sync_happens_at_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the interpreter no thread can be started."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)

    seq = writer.append(make_records(1))

    assert writer._flusher._durable == seq
    writer.close()


def test_losses_are_noted_in_a_reserved_block_and_go_into_the_books(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(3))
    (block,) = directory.glob("*.losses")
    size = block.stat().st_size

    writer.record_loss({"spool_full": 2})
    writer.record_loss({"spool_full": 1, "encoding": 1})
    while_open = pending(directory)
    writer.close()
    Drainer(directory, FINGERPRINT, Sink()).run_until_empty(5)
    afterwards = pending(directory)

    assert size == block.stat().st_size if block.exists() else size == 4096
    assert (while_open["captured"], while_open["lost"], while_open["pending"]) == (7, 4, 3)
    assert (afterwards["captured"], afterwards["lost"], afterwards["stored"]) == (7, 4, 3)
    assert list(directory.glob("*.losses")) == []


def test_losses_before_the_first_record_are_noted_with_it(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.record_loss({"spool_full": 5})

    writer.append(make_records(1))

    assert pending(directory)["lost"] == 5
    writer.close()


def test_losses_that_cannot_be_noted_are_kept_for_the_next_time(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(1))
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        writer.record_loss({"spool_full": 1})

    writer.record_loss({"spool_full": 1})

    assert "are not noted yet" in caplog.text
    assert pending(directory)["lost"] == 2
    writer.close()
