"""The audit database goes away, hangs or is locked, and comes back."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from otel_audit.models import RegistrationAuditEvent
from otel_audit_exporters import database, drain
from otel_audit_exporters.database import own_connection
from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.spool import SpoolWriter
from otel_audit_exporters.writer import RetryLaterError, store
from tests import engines
from tests.exporters.spooling import FINGERPRINT, make_records

ALIAS = "outage"
READ_ONLY: dict[str, dict[str, str]] = {
    "postgresql": {"options": "-c default_transaction_read_only=on"},
    "mysql": {"init_command": "SET SESSION TRANSACTION READ ONLY"},
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any) -> Iterator[None]:
    monkeypatch.setattr(drain, "BACKOFF_MAX_S", 0.5)
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_S", 2)
    with django_db_blocker.unblock():
        yield


@contextmanager
def audit_database(settings: dict[str, Any]) -> Iterator[None]:
    """Make a database known under ``ALIAS`` and create the table in it."""
    connections.settings[ALIAS] = connections.configure_settings({"default": settings, ALIAS: settings})[ALIAS]
    try:
        with own_connection(ALIAS) as connection, connection.schema_editor() as editor:
            editor.create_model(RegistrationAuditEvent)
        yield
    finally:
        del connections.settings[ALIAS]
        if hasattr(connections._connections, ALIAS):
            connections[ALIAS].close()
            del connections[ALIAS]


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def running(request: pytest.FixtureRequest) -> Iterator[engines.Server]:
    """Return a server that runs."""
    try:
        with engines.ENGINES[request.param]() as server:
            assert server is not None
            yield server
    except engines.MissingServer as missing:
        pytest.skip(f"NOT TESTED: {missing}")


@pytest.fixture
def server(running: engines.Server) -> Iterator[engines.Server]:
    """Return the server with an empty database of this test's own, known as ``ALIAS``."""
    settings = {**running.database, "NAME": f"outage_{time.monotonic_ns()}"}
    engines.create_database(settings)
    with audit_database(settings):
        yield running


@pytest.fixture
def writer(directory: Path) -> Iterator[SpoolWriter]:
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    yield writer
    writer.close()


@pytest.fixture
def drainer(directory: Path) -> Iterator[Drainer]:
    drainer = Drainer(directory, FINGERPRINT, lambda found: store(found, ALIAS), database=ALIAS)
    drainer.start()
    yield drainer
    drainer.stop(10)


def rows() -> int:
    with own_connection(ALIAS):
        return RegistrationAuditEvent.objects.using(ALIAS).count()


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def timed_appends(writer: SpoolWriter, count: int) -> list[float]:
    taken = []
    for record in make_records(count):
        began = time.perf_counter()
        writer.append([record])
        taken.append(time.perf_counter() - began)
    return taken


def test_records_wait_for_a_server_that_is_stopped_and_arrive_once(
    server: engines.Server, writer: SpoolWriter, drainer: Drainer
) -> None:
    writer.append(make_records(100))
    assert wait_for(lambda: drainer.left() == 0, 10)

    server.stop()
    writer.append(make_records(700))
    time.sleep(0.3)
    waiting = drainer.left()
    server.start()

    assert waiting == 700
    assert wait_for(lambda: drainer.left() == 0, 20)
    assert rows() == 800
    assert pending(drainer.directory)["quarantined"] == 0


def test_a_server_that_is_killed_in_the_middle_of_a_batch_costs_and_doubles_nothing(
    server: engines.Server, writer: SpoolWriter, drainer: Drainer
) -> None:
    writer.append(make_records(4000))
    assert wait_for(lambda: pending(drainer.directory)["stored"] > 500, 10)

    server.stop(how=engines.KILL)
    server.start()

    assert wait_for(lambda: drainer.left() == 0, 30)
    assert rows() == 4000
    assert pending(drainer.directory)["quarantined"] == 0


def test_a_server_that_accepts_and_never_answers_holds_up_nobody_but_the_drain(
    server: engines.Server, writer: SpoolWriter, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.append(make_records(10))
    before = timed_appends(writer, 500)
    assert wait_for(lambda: drainer.left() == 0, 10)

    server.pause()
    during = timed_appends(writer, 500)
    began = time.monotonic()
    left = drainer.run_until_empty(0.5)
    waited = time.monotonic() - began
    server.resume()

    assert left == 500
    assert waited < 1.5
    assert statistics.median(during) < 5 * statistics.median(before)
    assert wait_for(lambda: drainer.left() == 0, 20)
    assert rows() == 1010


def test_a_server_that_is_slow_holds_up_nobody_but_the_drain(
    server: engines.Server, writer: SpoolWriter, drainer: Drainer
) -> None:
    writer.append(make_records(10))
    before = timed_appends(writer, 200)
    assert wait_for(lambda: drainer.left() == 0, 10)

    make_inserts_slow()
    during = timed_appends(writer, 200)
    waiting = drainer.left()

    assert waiting > 0
    assert statistics.median(during) < 5 * statistics.median(before)
    assert wait_for(lambda: drainer.left() == 0, 20)
    assert rows() == 410
    assert drainer._failures == 0


def make_inserts_slow() -> None:
    """Let the server take 10 ms for each row."""
    with own_connection(ALIAS) as connection, connection.cursor() as cursor:
        table = connection.ops.quote_name(RegistrationAuditEvent._meta.db_table)
        if connection.vendor == "mysql":
            cursor.execute(f"CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW DO SLEEP(0.01)")
            return
        body = "BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END"
        cursor.execute(f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
        cursor.execute(f"CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION slow()")


def test_the_drain_gives_up_on_a_server_that_does_not_answer_and_tries_again(
    server: engines.Server, directory: Path, writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "ANSWER_TIMEOUT_S", 1)
    writer.append(make_records(10))
    drainer = Drainer(directory, FINGERPRINT, lambda found: store(found, ALIAS), database=ALIAS)
    drainer.start()
    assert wait_for(lambda: pending(directory)["stored"] == 10, 10)
    server.pause()
    writer.append(make_records(10))

    given_up = wait_for(lambda: drainer._failures > 0, 8)
    server.resume()

    assert given_up
    assert wait_for(lambda: drainer.left() == 0, 20)
    assert rows() == 20
    drainer.stop(10)


def test_records_wait_while_the_database_takes_no_writes(server: engines.Server, writer: SpoolWriter) -> None:
    drainer = Drainer(writer.directory, FINGERPRINT, lambda found: store(found, ALIAS), database=ALIAS)
    options = connections.settings[ALIAS]["OPTIONS"]
    options |= READ_ONLY[connections[ALIAS].vendor]
    writer.append(make_records(5))

    left = drainer.run_until_empty(0.5)
    options.clear()
    left_later = drainer.run_until_empty(10)

    assert (left, left_later) == (5, 0)
    assert rows() == 5
    assert pending(drainer.directory)["quarantined"] == 0


@pytest.mark.parametrize("pragma", ["query_only=ON", "max_page_count=1"], ids=["read-only", "full"])
def test_records_wait_while_the_sqlite_file_is(tmp_path: Path, writer: SpoolWriter, pragma: str) -> None:
    with audit_database({"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "audit.sqlite3"}):
        drainer = Drainer(writer.directory, FINGERPRINT, lambda found: store(found, ALIAS), database=ALIAS)
        options = connections.settings[ALIAS]["OPTIONS"]
        options["init_command"] = f"PRAGMA {pragma}"
        writer.append(make_records(200))

        left = drainer.run_until_empty(0.5)
        options.clear()
        left_later = drainer.run_until_empty(10)

        assert (left, left_later) == (200, 0)
        assert rows() == 200
        assert pending(drainer.directory)["quarantined"] == 0


def test_records_of_before_the_first_start_of_the_database_arrive(
    server: engines.Server, directory: Path, writer: SpoolWriter
) -> None:
    server.stop()
    writer.append(make_records(5))
    drainer = Drainer(directory, FINGERPRINT, lambda found: store(found, ALIAS), database=ALIAS)
    drainer.start()
    tried = wait_for(lambda: drainer._failures > 0, 10)
    server.start()

    assert tried
    assert wait_for(lambda: drainer.left() == 0, 20)
    assert rows() == 5
    drainer.stop(10)


def test_records_wait_while_somebody_else_has_locked_the_sqlite_file(
    tmp_path: Path, writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_S", 0.1)
    path = tmp_path / "audit.sqlite3"
    with audit_database({"ENGINE": "django.db.backends.sqlite3", "NAME": path}):
        drainer = Drainer(writer.directory, FINGERPRINT, lambda found: store(found, ALIAS), database=ALIAS)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        writer.append(make_records(5))

        left = drainer.run_until_empty(0.5)
        holder.execute("ROLLBACK")
        holder.close()
        left_later = drainer.run_until_empty(10)

        assert (left, left_later) == (5, 0)
        assert rows() == 5


def test_records_wait_while_the_sqlite_file_is_no_database(tmp_path: Path, writer: SpoolWriter) -> None:
    path = tmp_path / "audit.sqlite3"
    with audit_database({"ENGINE": "django.db.backends.sqlite3", "NAME": path}):
        good = path.read_bytes()
        path.write_bytes(b"no database at all" * 100)
        drainer = Drainer(writer.directory, FINGERPRINT, lambda found: store(found, ALIAS), database=ALIAS)
        writer.append(make_records(5))

        left = drainer.run_until_empty(0.3)
        path.write_bytes(good)
        left_later = drainer.run_until_empty(10)

        assert (left, left_later) == (5, 0)
        assert rows() == 5


def test_records_wait_for_an_sqlite_file_that_cannot_be_opened(tmp_path: Path) -> None:
    missing = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "nowhere" / "audit.sqlite3"}
    connections.settings[ALIAS] = connections.configure_settings({"default": missing, ALIAS: missing})[ALIAS]
    try:
        with own_connection(ALIAS), pytest.raises(RetryLaterError, match="unable to open"):
            store([b'{"type": "event"}', *payloads(1)], ALIAS)
    finally:
        del connections[ALIAS]
        del connections.settings[ALIAS]


def payloads(count: int) -> list[bytes]:
    from otel_audit_exporters.envelope import seal

    return [seal(record, "0" * 16, 1, "2026-11-24T10:00:00.123456+00:00") for record in make_records(count)]
