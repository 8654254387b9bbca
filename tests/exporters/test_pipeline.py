"""The pipeline delivers as the site asked, by the other way when that one is closed, and never silently not."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import AsyncClient, Client

from otel_audit import flush, process, status
from otel_audit.conf import conf
from otel_audit.models import ProcessAuditEvent, RegistrationAuditEvent, RequestAuditEvent
from otel_audit_exporters import direct, quarantine
from otel_audit_exporters import pipeline as module
from otel_audit_exporters.draining import Draining
from otel_audit_exporters.pipeline import pipeline
from otel_audit_exporters.processor import AuditSpanProcessor
from otel_audit_exporters.spool import SpoolWriter

from .spooling import make_record, make_records, spooled

pytestmark = [
    pytest.mark.django_db(databases=["default", "audit"], transaction=True),
    pytest.mark.usefixtures("fresh_pipeline", "fresh_provider"),
]

Deliver = Callable[..., None]


@pytest.fixture
def deliver(settings: Any, tmp_path: Path) -> Deliver:
    """Have the audit trail delivered in some way, spooled below ``tmp_path``."""

    def set_delivery(delivery: str, **more: Any) -> None:
        settings.OTEL_AUDIT = {"DATABASE": "audit", "DELIVERY": delivery, "SPOOL_DIR": str(tmp_path / "spool"), **more}

    return set_delivery


@pytest.fixture
def broken_spool(tmp_path: Path) -> Iterator[Path]:
    """A spool directory that cannot be used: it is a file."""
    path = tmp_path / "spool"
    path.write_text("")
    yield path


def test_a_request_is_in_the_spool_when_its_response_is_there(deliver: Deliver, tmp_path: Path) -> None:
    deliver("spool", DRAIN="external")

    Client().get("/admin/login/")

    assert [envelope["facts"]["url"] for envelope in spooled(tmp_path / "spool")] == ["/admin/login/"]


def test_a_request_is_in_the_database_soon_without_being_asked_for(deliver: Deliver) -> None:
    deliver("spool")

    Client().get("/admin/login/")

    assert flush(10) == 0
    assert RequestAuditEvent.objects.get().url == "/admin/login/"


def test_sync_delivery_has_the_row_when_the_response_is_there(deliver: Deliver, tmp_path: Path) -> None:
    deliver("sync")

    Client().get("/admin/login/")

    assert RequestAuditEvent.objects.get().url == "/admin/login/"
    assert not (tmp_path / "spool").exists()


async def test_sync_delivery_in_an_event_loop_has_the_row_when_the_response_is_there(deliver: Deliver) -> None:
    deliver("sync")

    await AsyncClient().get("/admin/login/")

    assert (await RequestAuditEvent.objects.aget()).url == "/admin/login/"


async def test_a_process_in_an_event_loop_is_written_on_a_connection_of_its_own(deliver: Deliver) -> None:
    deliver("sync")

    async with process("Import"):
        pass

    assert (await ProcessAuditEvent.objects.aget()).name == "Import"


def test_memory_delivery_keeps_nothing_outside_a_capture(deliver: Deliver, tmp_path: Path) -> None:
    deliver("memory")

    Client().get("/admin/login/")

    assert not RequestAuditEvent.objects.exists()
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("fsync", ["interval", "always"])
def test_a_request_is_answered_under_either_promise(deliver: Deliver, fsync: str) -> None:
    deliver("spool", FSYNC=fsync)

    Client().get("/admin/login/")

    assert flush(10) == 0
    assert RequestAuditEvent.objects.count() == 1


def test_always_waits_for_the_disk_before_the_response_leaves(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("spool", FSYNC="always", DRAIN="external")
    waited: list[int] = []
    real = SpoolWriter.wait_durable

    def wait(self: SpoolWriter, seq: int, timeout: float) -> None:
        real(self, seq, timeout)
        waited.append(seq)

    monkeypatch.setattr(SpoolWriter, "wait_durable", wait)

    Client().get("/admin/login/")

    assert waited == [1]


async def test_always_does_not_hold_up_the_event_loop(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver("spool", FSYNC="always", DRAIN="external")
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (time.sleep(0.02), real(fd))[1])
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    responses = await asyncio.gather(*(AsyncClient().get("/admin/login/") for _ in range(5)))
    ticking.cancel()

    assert [response.status_code for response in responses] == [200] * 5
    assert ticks > 20


def test_a_disk_that_fails_is_an_alarm_and_not_a_failed_request(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deliver("spool", FSYNC="always")

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)

    response = Client().get("/admin/login/")

    assert response.status_code == 200
    deadline = time.monotonic() + 10
    while "fsync" not in caplog.text and time.monotonic() < deadline:  # the flusher's thread says it
        time.sleep(0.01)
    assert "fsync" in caplog.text
    monkeypatch.undo()


def test_an_unusable_spool_is_gone_round_by_writing_at_once(
    deliver: Deliver, broken_spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deliver("spool")

    Client().get("/admin/login/")
    Client().get("/admin/login/")

    assert RequestAuditEvent.objects.count() == 2
    assert sum("append" in record.message for record in caplog.records) == 1


def test_a_database_that_is_away_under_sync_delivery_is_gone_round_by_the_spool(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deliver("sync", DRAIN="external")
    away = module.store
    monkeypatch.setattr(module, "store", _unavailable)
    monkeypatch.setattr(Draining, "begin", lambda self: None)

    Client().get("/admin/login/")

    assert len(spooled(tmp_path / "spool")) == 1
    monkeypatch.setattr(module, "store", away)


def test_records_wait_in_memory_when_both_ways_are_closed_and_go_with_the_next(
    deliver: Deliver, broken_spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("spool")
    monkeypatch.setattr(direct, "PAUSE_S", 0.0)
    back = module.store
    monkeypatch.setattr(module, "store", _unavailable)
    Client().get("/admin/login/")
    held = status()["held"]
    monkeypatch.setattr(module, "store", back)

    Client().get("/admin/login/")

    assert held == 1
    assert RequestAuditEvent.objects.count() == 2
    assert status()["held"] == 0


def test_what_memory_cannot_hold_is_counted_as_lost(
    deliver: Deliver, broken_spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("spool")
    monkeypatch.setattr(module, "store", _unavailable)
    monkeypatch.setattr(module, "MAX_HELD", 3)

    for _ in range(5):
        Client().get("/admin/login/")

    assert status()["held"] == 3
    assert status()["lost"] == 2
    assert status()["captured"] == 5


def test_a_record_that_cannot_be_encoded_costs_no_other_and_is_counted(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otel_audit import edges

    deliver("spool")
    monkeypatch.setattr(edges, "reraise", False)

    def broken() -> Any:
        raise ValueError("cannot be encoded")

    pipeline._queue.put(broken)
    pipeline._queue.put(lambda: [make_record("checked")])
    pipeline.pump()

    assert flush(10) == 0
    assert RegistrationAuditEvent.objects.get().name == "checked"
    assert status()["lost"] == 1


def test_a_conflict_under_sync_delivery_goes_to_quarantine_with_an_alarm(
    deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    deliver("sync")
    first, second = make_record("first"), make_record("second")
    second = type(second)(first.id, second.core.replace(second.id.encode(), first.id.encode()), second.hash)

    pipeline._queue.put(lambda: [first])
    pipeline.pump()
    pipeline._queue.put(lambda: [second])
    pipeline.pump()

    assert RegistrationAuditEvent.objects.get().name == "first"
    assert [entry.reason for entry in quarantine.entries(conf.spool_dir, conf.fingerprint)] == ["conflict"]
    assert "conflict" in caplog.text


def test_flush_says_how_many_records_are_left(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver("spool")
    connections["audit"].close()
    monkeypatch.setattr(module, "store", _unavailable)
    pipeline._queue.put(lambda: make_records(3))
    pipeline.pump()

    assert flush(0.2) == 3
    assert AuditSpanProcessor().force_flush(200) is False


def test_shutdown_says_how_many_records_are_left(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver("spool")
    connections["audit"].close()
    monkeypatch.setattr(module, "store", _unavailable)
    pipeline._queue.put(lambda: make_records(3))

    assert pipeline.shutdown() == 3


def test_status_adds_up(deliver: Deliver) -> None:
    deliver("spool")
    pipeline._queue.put(lambda: make_records(4))
    pipeline.pump()
    flush(10)

    found = status()

    assert found["captured"] == found["stored"] + found["pending"] + found["quarantined"] + found["lost"] == 4


def test_a_process_that_ends_leaves_a_closed_stream_and_its_rows(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import django
        from django.conf import settings
        settings.configure(
            SECRET_KEY="x" * 50,
            INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "otel_audit"],
            DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {str(tmp_path / "db")!r}}}}},
            OTEL_AUDIT={{"SPOOL_DIR": {str(tmp_path / "spool")!r}}},
            USE_TZ=True,
        )
        django.setup()
        from django.core.management import call_command
        call_command("migrate", verbosity=0)
        from otel_audit import process
        with process("Import"):
            pass
        import sys
        if len(sys.argv) > 1:
            from otel_audit import status
            from otel_audit.models import ProcessAuditEvent
            print(ProcessAuditEvent.objects.count(), status()["unclosed_streams"])
        """
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": ""}
    run = [sys.executable, "-c", script]
    subprocess.run(run, env=environment, check=True, timeout=60)

    said = subprocess.run([*run, "second"], env=environment, check=True, timeout=60, capture_output=True, text=True)

    # The row of the first process is there; of the two streams only the second, which is running, is open.
    rows, unclosed = map(int, said.stdout.split())
    assert rows >= 1
    assert unclosed == 0


def test_a_child_after_a_fork_delivers_by_itself(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import os, warnings
        import django
        from django.conf import settings
        settings.configure(
            SECRET_KEY="x" * 50,
            INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "otel_audit"],
            DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {str(tmp_path / "db")!r}}}}},
            OTEL_AUDIT={{"SPOOL_DIR": {str(tmp_path / "spool")!r}}},
            USE_TZ=True,
        )
        django.setup()
        warnings.simplefilter("ignore")
        from django.core.management import call_command
        from django.db import connections
        call_command("migrate", verbosity=0)
        import otel_audit
        with otel_audit.process("parent"):
            pass
        connections.close_all()
        child = os.fork()
        if child == 0:
            with otel_audit.process("child"):
                pass
            os._exit(0)
        os.waitpid(child, 0)
        assert otel_audit.flush(20) == 0
        from otel_audit.models import ProcessAuditEvent
        print(*sorted(ProcessAuditEvent.objects.values_list("name", flat=True)))
        """
    )

    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": ""},
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )

    assert said.stdout.split() == ["child", "parent"]


def _unavailable(payloads: Any, using: str) -> Any:
    from otel_audit_exporters.writer import RetryLaterError

    logging.getLogger(__name__).debug("the database is away")
    raise RetryLaterError("the database is away")
