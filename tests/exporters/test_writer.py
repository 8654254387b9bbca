from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connections,
    transaction,
)
from django.utils.connection import ConnectionDoesNotExist
from opentelemetry import context
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY

from otel_audit.ids import record_id
from otel_audit.models import (
    AuditEvent,
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit_exporters import database, quarantine, writer
from otel_audit_exporters.database import is_outage, own_connection
from otel_audit_exporters.drain import Drainer
from otel_audit_exporters.envelope import seal
from otel_audit_exporters.spool import SpoolWriter
from otel_audit_exporters.writer import CONFLICT, POISON, RetryLaterError, store, write
from tests.exporters.spooling import FINGERPRINT, make_record, make_records

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])

AUDIT = "audit"


def registration(**columns: Any) -> RegistrationAuditEvent:
    return RegistrationAuditEvent(
        **{"id": uuid.UUID(record_id()), "success": True, "name": "checked", "record_hash": "a" * 64, **columns}
    )


def poison() -> RegistrationAuditEvent:
    """Return a row that every database refuses."""
    return registration(stream_seq=2**63)


def payloads(count: int) -> list[bytes]:
    return [
        seal(record, "0" * 16, seq, "2026-11-24T10:00:00.123456+00:00")
        for seq, record in enumerate(make_records(count), 1)
    ]


def test_rows_of_all_five_models_are_written() -> None:
    models: list[type[AuditEvent]] = [
        RequestAuditEvent,
        LoginAuditEvent,
        ProcessAuditEvent,
        StepAuditEvent,
        RegistrationAuditEvent,
    ]
    rows = [
        model(id=uuid.UUID(record_id()), **({"success": True} if model is RegistrationAuditEvent else {}))
        for model in models
    ]

    outcome = write(rows, AUDIT)

    assert outcome.stored == 5
    assert outcome.rejections == []
    assert [model.objects.using(AUDIT).count() for model in models] == [1] * 5


def test_what_was_written_is_read_back_unchanged() -> None:
    at = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)
    request = uuid.UUID(record_id())
    row = LoginAuditEvent(
        id=uuid.UUID(record_id()),
        datetime=at,
        status="Sign in",
        username="ünal 😀",
        request_id=request,
        changed_fields=["username"],
        extra_informations={"a": [1, 2.5, None, True, "ä"]},
        stream_seq=17,
    )

    write([row], AUDIT)

    found = LoginAuditEvent.objects.using(AUDIT).get(pk=row.pk)
    assert found.datetime == at
    assert found.username == "ünal 😀"
    assert found.request_id == request
    assert found.changed_fields == ["username"]
    assert found.extra_informations == {"a": [1, 2.5, None, True, "ä"]}
    assert found.stream_seq == 17


@pytest.mark.parametrize(
    "text",
    [
        "it's",
        'a "quoted" \\ word',
        "%s %(a)s {} $1 :b ?",
        "\x1b[2J\t\r\n\x7f",
        "\u2028\ufeff\uffff",
        '{"a": "\\u0041"}',
        "\\x00",
        "null",
    ],
)
def test_text_of_any_kind_is_read_back_unchanged(text: str) -> None:
    extra = {text: [text, {"deep": text}], "numbers": [0.1, -1e-9, 2**53, -(2**53)], "text": "2026-11-24"}
    row = RequestAuditEvent(
        id=uuid.UUID(record_id()), url=text, request_body=text, response_time=0.1, response_size=2**62,
        extra_informations=extra,
    )  # fmt: skip

    write([row], AUDIT)

    found = RequestAuditEvent.objects.using(AUDIT).get(pk=row.pk)
    assert (found.url, found.request_body, found.extra_informations) == (text, text, extra)
    assert (found.response_time, found.response_size) == (0.1, 2**62)


def test_json_null_and_no_value_are_both_null() -> None:
    row = registration(extra_informations=None)

    write([row], AUDIT)

    assert RegistrationAuditEvent.objects.using(AUDIT).filter(extra_informations__isnull=True).count() == 1


def test_the_time_of_storage_is_set() -> None:
    row = registration(stored_at=datetime(2000, 1, 1, tzinfo=UTC))
    before = datetime.now(UTC)

    write([row], AUDIT)

    found = RegistrationAuditEvent.objects.using(AUDIT).get(pk=row.pk)
    assert before <= found.stored_at <= datetime.now(UTC)


def test_writing_again_changes_nothing() -> None:
    row = registration()
    write([row], AUDIT)
    stored_at = RegistrationAuditEvent.objects.using(AUDIT).get(pk=row.pk).stored_at

    outcome = write([registration(id=row.pk), registration()], AUDIT)

    assert outcome.stored == 2
    assert outcome.rejections == []
    assert RegistrationAuditEvent.objects.using(AUDIT).count() == 2
    assert RegistrationAuditEvent.objects.using(AUDIT).get(pk=row.pk).stored_at == stored_at


def test_the_same_record_twice_in_a_batch_is_one_row() -> None:
    row = registration()

    outcome = write([row, registration(id=row.pk)], AUDIT)

    assert outcome.stored == 2
    assert RegistrationAuditEvent.objects.using(AUDIT).count() == 1


def test_a_taken_id_with_another_hash_is_a_conflict_and_the_others_land() -> None:
    first = registration()
    write([first], AUDIT)

    outcome = write([registration(), registration(id=first.pk, record_hash="b" * 64), registration()], AUDIT)

    (rejection,) = outcome.rejections
    assert (rejection.index, rejection.reason) == (1, CONFLICT)
    assert outcome.stored == 2
    assert RegistrationAuditEvent.objects.using(AUDIT).count() == 3
    assert RegistrationAuditEvent.objects.using(AUDIT).get(pk=first.pk).record_hash == "a" * 64


def test_two_hashes_for_one_id_in_one_batch_are_a_conflict() -> None:
    first = registration()

    outcome = write([first, registration(id=first.pk, record_hash="b" * 64)], AUDIT)

    assert [(rejection.index, rejection.reason) for rejection in outcome.rejections] == [(1, CONFLICT)]


def test_one_poison_row_in_500_is_refused_alone() -> None:
    rows = [registration() for _ in range(500)]
    rows[333] = poison()

    outcome = write(rows, AUDIT)

    assert [(rejection.index, rejection.reason) for rejection in outcome.rejections] == [(333, POISON)]
    assert outcome.stored == 499
    assert RegistrationAuditEvent.objects.using(AUDIT).count() == 499


def test_a_value_that_does_not_fit_is_refused_and_never_cut_silently() -> None:
    """MariaDB's INSERT IGNORE would turn this into a warning and another number."""
    row = StepAuditEvent(id=uuid.UUID(record_id()), name="step", order=2**31)

    outcome = write([row], AUDIT)

    found = StepAuditEvent.objects.using(AUDIT).filter(pk=row.pk).first()
    assert [rejection.reason for rejection in outcome.rejections] == [POISON] or (found and found.order == 2**31)


def test_an_empty_batch_is_written() -> None:
    assert write([], AUDIT).stored == 0


def test_a_missing_table_means_later_for_all() -> None:
    with connections[AUDIT].schema_editor() as editor:
        editor.delete_model(RegistrationAuditEvent)
    try:
        with pytest.raises(RetryLaterError):
            write([registration(), registration()], AUDIT)
    finally:
        with connections[AUDIT].schema_editor() as editor:
            editor.create_model(RegistrationAuditEvent)


def test_a_missing_column_means_later_for_all() -> None:
    field = RegistrationAuditEvent._meta.get_field("description")
    with connections[AUDIT].schema_editor() as editor:
        editor.remove_field(RegistrationAuditEvent, field)
    try:
        with pytest.raises(RetryLaterError):
            write([registration()], AUDIT)
    finally:
        with connections[AUDIT].schema_editor() as editor:
            editor.add_field(RegistrationAuditEvent, field)


def test_writing_happens_with_instrumentation_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real_insert = writer._insert

    def look(*arguments: Any) -> Any:
        seen.append(
            (context.get_value(_SUPPRESS_INSTRUMENTATION_KEY), context.get_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY))
        )
        return real_insert(*arguments)

    monkeypatch.setattr(writer, "_insert", look)

    write([registration()], AUDIT)

    assert seen == [(True, True)]
    assert context.get_value(_SUPPRESS_INSTRUMENTATION_KEY) is None


def test_payloads_become_rows() -> None:
    outcome = store(payloads(3), AUDIT)

    assert outcome.stored == 3
    assert RegistrationAuditEvent.objects.using(AUDIT).count() == 3


@pytest.mark.parametrize("nonsense", [b"{", b"[]", b'{"v": 1, "type": "span"}', b'{"type": "event", "kind": "tea"}'])
def test_a_payload_that_is_no_record_is_refused_and_the_others_land(nonsense: bytes) -> None:
    first, second = payloads(2)

    outcome = store([first, nonsense, second], AUDIT)

    assert [(rejection.index, rejection.reason) for rejection in outcome.rejections] == [(1, POISON)]
    assert outcome.stored == 2
    assert RegistrationAuditEvent.objects.using(AUDIT).count() == 2


def test_a_connection_of_our_own_has_time_limits_and_the_sites_has_not() -> None:
    site = connections[AUDIT]

    with own_connection(AUDIT) as own:
        inside = connections[AUDIT]
        own.ensure_connection()
        limits = dict(own.settings_dict["OPTIONS"])

    assert inside is own
    assert connections[AUDIT] is site
    assert limits != site.settings_dict.get("OPTIONS")
    assert {"connect_timeout", "timeout"} & limits.keys()
    assert own.connection is None


def test_a_connection_of_our_own_is_outside_of_the_callers_transaction() -> None:
    row = registration()
    if connections[AUDIT].vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")

    with transaction.atomic(using=AUDIT):
        registration().save(using=AUDIT)
        with own_connection(AUDIT):
            write([row], AUDIT)
        transaction.set_rollback(True, using=AUDIT)

    assert [found.pk for found in RegistrationAuditEvent.objects.using(AUDIT)] == [row.pk]


def test_another_threads_connection_is_not_changed() -> None:
    site = connections[AUDIT]
    own = []

    def use() -> None:
        with own_connection(AUDIT):
            own.append(connections[AUDIT])
        connections[AUDIT].close()

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()

    assert own[0] is not site
    assert connections[AUDIT] is site


class _PostgreSQLError(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def _with_sqlstate(error: DatabaseError, sqlstate: str) -> DatabaseError:
    error.__cause__ = _PostgreSQLError(sqlstate)
    return error


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (OperationalError("database is locked"), True),
        (OperationalError("no such table: otel_audit_requestauditevent"), True),
        (OperationalError(2006, "MySQL server has gone away"), True),
        (OperationalError(1366, "Incorrect string value"), False),
        (OperationalError(1153, "Got a packet bigger than 'max_allowed_packet' bytes"), False),
        (ProgrammingError(1146, "Table doesn't exist"), True),
        (_with_sqlstate(ProgrammingError("relation does not exist"), "42P01"), True),
        (_with_sqlstate(ProgrammingError("permission denied"), "42501"), True),
        (_with_sqlstate(ProgrammingError("cannot adapt type"), "42804"), False),
        (_with_sqlstate(OperationalError("index row size exceeds maximum"), "54000"), False),
        (_with_sqlstate(OperationalError("no space left on device"), "53100"), True),
        (OverflowError("int too large"), False),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), False),
        (ValueError("a NUL character"), False),
        (DatabaseError("file is not a database"), True),
        (InternalError("cannot execute INSERT in a read-only transaction"), True),
        (DataError("value too long"), False),
        (IntegrityError("violates check constraint"), False),
        (ConnectionDoesNotExist("The connection 'audit' doesn't exist."), True),
        (ConnectionResetError(), True),
        (RuntimeError("nobody knows"), True),
    ],
)
def test_trouble_of_the_database_is_told_from_trouble_with_a_row(error: Exception, outage: bool) -> None:
    assert is_outage(error) is outage


def test_a_conflict_ends_in_quarantine_with_an_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "spool"
    spool = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    first = make_record("the truth")
    forged = make_record("a forgery", identity=first.id)
    spool.append([first])
    spool.append([forged, make_record("another")])
    spool.close()
    drainer = Drainer(directory, FINGERPRINT, lambda found: store(found, AUDIT), database=AUDIT)

    left = drainer.run_until_empty(10)

    (entry,) = quarantine.entries(directory, FINGERPRINT)
    assert left == 0
    assert entry.reason == CONFLICT
    assert b"a forgery" in entry.data
    names = set(RegistrationAuditEvent.objects.using(AUDIT).values_list("name", flat=True))
    assert names == {"the truth", "another"}
    assert "conflict" in caplog.text


def test_the_drain_closes_its_connection_when_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_audit_exporters.drain.IDLE_CLOSE_S", 0.05)
    closed = threading.Event()
    monkeypatch.setattr("otel_audit_exporters.drain.close_own_connection", lambda alias: closed.set())
    drainer = Drainer(tmp_path / "spool", FINGERPRINT, lambda found: store(found, AUDIT), database=AUDIT)

    drainer.start()

    assert closed.wait(5)
    drainer.stop(5)


def test_the_drain_waits_for_a_database_that_is_not_there(tmp_path: Path, settings: Any) -> None:
    directory = tmp_path / "spool"
    spool = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    spool.append(make_records(2))
    spool.close()

    def nowhere(found: Any) -> Any:
        raise RetryLaterError(f"The audit database takes no rows: {database.__name__}")

    left = Drainer(directory, FINGERPRINT, nowhere, database=AUDIT).run_until_empty(0.3)
    left_later = Drainer(directory, FINGERPRINT, lambda found: store(found, AUDIT), database=AUDIT).run_until_empty(10)

    assert (left, left_later) == (2, 0)
    assert RegistrationAuditEvent.objects.using(AUDIT).count() == 2
