"""Real requests and processes become real rows: by the spool, at once, or not at all; and trouble costs no record."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from otel_audit import annotate, edges, flush, process, status
from otel_audit.conf import conf
from otel_audit.exceptions import SpoolError
from otel_audit.ids import record_id
from otel_audit.models import (
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit.provider import site_tracer
from otel_audit.signals import audit_delivery_failed
from otel_audit.testing import capture
from otel_audit_exporters import alarm, direct, quarantine
from otel_audit_exporters.pipeline import pipeline
from otel_audit_exporters.segments import segments
from tests.exporters.spooling import UNUSABLE, make_record, spooled

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True, databases=["default", "audit"]),
    pytest.mark.usefixtures("fresh_provider", "fresh_pipeline"),
]

AUDIT = "audit"


class Boom(Exception):
    """What the site's own code raises."""


def shop(request: HttpRequest) -> HttpResponse:
    """Run a process and change the site's database."""
    annotate(request, order=7)
    Group.objects.create(name=f"group {Group.objects.count()}")
    with process("Sell") as p, p.step("Pay") as s:
        s.register(True, "paid")
    if "fail" in request.GET:
        raise Boom("the till is empty")
    return HttpResponse("sold")


async def ashop(request: HttpRequest) -> HttpResponse:
    """Run a process in an event loop."""
    async with process("Sell") as p, p.step("Pay") as s:
        s.register(True, "paid")
    return HttpResponse("sold")


urlpatterns = [path("shop/", shop), path("ashop/", ashop)]


@pytest.fixture
def deliver(settings: Any, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that chooses the delivery, with a spool directory of this test alone."""

    def choose(delivery: str, **more: Any) -> Path:
        directory = tmp_path / "spool"
        settings.OTEL_AUDIT = {"DATABASE": AUDIT, "DELIVERY": delivery, "SPOOL_DIR": str(directory), **more}
        return directory

    return choose


@pytest.fixture
def away() -> Iterator[Callable[[], None]]:
    """Return a function that takes the tables of the audit database away; they come back when it is called again."""
    models = (RequestAuditEvent, LoginAuditEvent, ProcessAuditEvent, StepAuditEvent, RegistrationAuditEvent)
    gone = False

    def toggle() -> None:
        nonlocal gone
        with connections[AUDIT].cursor() as cursor:
            for model in models:
                table = model._meta.db_table
                old, new = (f"{table}_away", table) if gone else (table, f"{table}_away")
                cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")
        gone = not gone

    yield toggle
    if gone:
        toggle()


def rows() -> dict[str, int]:
    """Count the rows of the audit database."""
    return {
        model._meta.model_name.removesuffix("auditevent"): model.objects.using(AUDIT).count()
        for model in (RequestAuditEvent, ProcessAuditEvent, StepAuditEvent, RegistrationAuditEvent)
    }


def each(count: int) -> dict[str, int]:
    """Return that many of each kind."""
    return {"request": count, "process": count, "step": count, "registration": count}


async def in_thread(ask: Callable[[], Any]) -> Any:
    """Ask a database in the thread in which the site's sync code runs, and close its connections there."""

    def asked() -> Any:
        try:
            return ask()
        finally:
            connections.close_all()

    return await sync_to_async(asked)()


def until(condition: Callable[[], Any]) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ── the three deliveries ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_request_becomes_rows(deliver: Callable[..., Path], client: Client, delivery: str) -> None:
    deliver(delivery)

    client.get("/shop/?a=1")

    assert flush(5) == 0
    assert rows() == each(1)
    row = RequestAuditEvent.objects.using(AUDIT).get()
    assert (row.url, row.query_params, row.status_code) == ("/shop/", "a=1", 200)
    assert row.extra_informations == {"order": 7}
    found = row.processes.using(AUDIT).get()
    assert found.steps.using(AUDIT).get().registrations.using(AUDIT).get().name == "paid"


@pytest.mark.parametrize("delivery", ["spool", "sync"])
async def test_async_request_becomes_rows(
    deliver: Callable[..., Path], async_client: AsyncClient, delivery: str, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(delivery)

    await async_client.get("/ashop/")

    assert await in_thread(lambda: flush(5)) == 0
    assert await in_thread(rows) == each(1)
    assert [found.message for found in caplog.records if found.levelno >= logging.ERROR] == []
    assert not trace.get_current_span().get_span_context().is_valid


def test_spool_brings_a_row_within_100_ms_and_keeps_nothing(deliver: Callable[..., Path], client: Client) -> None:
    directory = deliver("spool")

    client.get("/shop/")
    until(lambda: rows() == each(1))

    assert flush(5) == 0
    assert status()["pending"] == 0
    assert spooled(directory) == [] or status()["stored"] == 4


def test_record_is_in_the_spool_before_the_response_leaves(deliver: Callable[..., Path], client: Client) -> None:
    directory = deliver("spool", DRAIN="external")

    client.get("/shop/")

    assert [found["kind"] for found in spooled(directory)] == ["registration", "step", "process", "request"]
    assert rows() == each(0)


def test_external_drain_leaves_the_work_to_the_command(deliver: Callable[..., Path], client: Client) -> None:
    deliver("spool", DRAIN="external")
    client.get("/shop/")

    assert not [thread for thread in threading.enumerate() if thread.name == "otel-audit-drain"]
    assert pipeline.drain(5) == 0
    assert rows() == each(1)


def test_memory_writes_nothing_and_starts_no_thread(deliver: Callable[..., Path], client: Client) -> None:
    directory = deliver("memory")
    before = {thread.name for thread in threading.enumerate()}

    with capture() as records:
        client.get("/shop/")
        with process("Outside"):
            pass

    assert len(records.requests) == 1
    assert flush(5) == 0
    assert rows() == each(0)
    assert not directory.exists()
    assert {thread.name for thread in threading.enumerate()} - before == set()


def test_capture_takes_what_happens_inside_it(deliver: Callable[..., Path]) -> None:
    deliver("memory")
    with capture() as outer:
        site_tracer()
        tracer = trace.get_tracer("shop")
        with tracer.start_as_current_span("before", attributes={"audit.kind": "process"}):
            pass
        with capture() as inner, tracer.start_as_current_span("inside", attributes={"audit.kind": "process"}):
            pass
        with tracer.start_as_current_span("after", attributes={"audit.kind": "process"}):
            pass

    assert [row.name for row in inner.processes] == ["inside"]
    assert [row.name for row in outer.processes] == ["before", "inside", "after"]
    assert len(outer) == 3
    assert [row.name for row in outer] == ["before", "inside", "after"]
    assert "before" not in repr(inner)
    outer.clear()
    assert outer.all == []


@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_capture_beside_another_delivery_changes_nothing(
    deliver: Callable[..., Path], client: Client, delivery: str
) -> None:
    deliver(delivery)

    with capture() as records:
        client.get("/shop/")

    assert len(records) == 4
    assert flush(5) == 0
    assert rows() == each(1)


@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_record_survives_the_rollback_of_the_view(deliver: Callable[..., Path], client: Client, delivery: str) -> None:
    deliver(delivery)
    client.raise_request_exception = False
    # As settings.DATABASES["default"]["ATOMIC_REQUESTS"] = True, which is read when the handler loads.
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = True
    try:
        response = client.get("/shop/?fail")
    finally:
        connections["default"].settings_dict["ATOMIC_REQUESTS"] = False

    assert response.status_code == 500
    assert Group.objects.count() == 0
    assert flush(5) == 0
    assert rows() == each(1)
    assert ProcessAuditEvent.objects.using(AUDIT).get().outcome == "success"


@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_switched_off_nothing_is_written(deliver: Callable[..., Path], client: Client, delivery: str) -> None:
    directory = deliver(delivery, ENABLED=False)

    assert client.get("/shop/").content == b"sold"

    assert flush(5) == 0
    assert rows() == each(0)
    assert not directory.exists()


@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_switched_off_spans_that_our_processor_sees_are_not_written(
    deliver: Callable[..., Path], delivery: str
) -> None:
    deliver(delivery)
    site_tracer()  # our processor is on the site's provider from now on
    directory = deliver(delivery, ENABLED=False)

    with trace.get_tracer("shop").start_as_current_span("Import", attributes={"audit.kind": "process"}):
        pass
    left = pipeline.shutdown()

    assert left == 0
    assert rows() == each(0)
    assert not directory.exists()


HOSTILE: dict[str, tuple[str, str, dict[str, str]]] = {
    "long forwarded address": ("GET", "/shop/", {"HTTP_X_FORWARDED_FOR": "1.2.3.4, " * 700}),
    "NUL in the path": ("GET", "/shop%00/", {}),
    "long method": ("M" * 200, "/shop/", {}),
    "long agent": ("GET", "/shop/", {"HTTP_USER_AGENT": "kettle " * 10_000}),
    "long query": ("GET", "/shop/?" + "n=1&" * 20_000, {}),
    "long path": ("GET", "/shop/" + "x" * 60_000, {}),
    "invalid UTF-8": ("GET", "/shop/%ff%fe?a=%ff", {"HTTP_USER_AGENT": "\xff\xfe"}),
    "emoji": ("GET", "/shop/%F0%9F%AB%96/", {"HTTP_USER_AGENT": "🫖".encode().decode("latin-1")}),
    "line breaks": ("GET", "/shop/%0d%0aSet-Cookie:%20a=1", {}),
}


@pytest.mark.parametrize("delivery", ["spool", "sync"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_request_is_answered_and_is_one_row(
    deliver: Callable[..., Path], client: Client, delivery: str, name: str
) -> None:
    deliver(delivery)
    method, url, headers = HOSTILE[name]

    response = client.generic(method, url, **headers)

    assert flush(5) == 0
    row = RequestAuditEvent.objects.using(AUDIT).get()
    assert row.status_code == response.status_code < 500
    assert row.ip_addresses == "127.0.0.1"


def test_writing_opens_no_transaction_on_the_sites_database(deliver: Callable[..., Path], client: Client) -> None:
    deliver("sync")
    statements: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        return execute(sql, params, many, context)

    with connections["default"].execute_wrapper(watch):
        client.get("/nothing/")

    assert RequestAuditEvent.objects.using(AUDIT).count() == 1
    assert statements == []


# ── outside a request ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_process_of_a_script_becomes_rows(deliver: Callable[..., Path], delivery: str) -> None:
    deliver(delivery)

    with process("Import") as p, p.step("Read") as s:
        s.register(True, "file")

    assert flush(5) == 0
    assert rows() == {**each(1), "request": 0}


@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_process_survives_the_rollback_around_it(deliver: Callable[..., Path], delivery: str) -> None:
    deliver(delivery)

    with pytest.raises(Boom), transaction.atomic(using=AUDIT), transaction.atomic():
        with process("Import") as p, p.step("Read") as s:
            s.register(True, "file")
        raise Boom

    assert flush(5) == 0
    assert rows() == {**each(1), "request": 0}


def test_process_inside_a_transaction_waits_for_nothing(deliver: Callable[..., Path]) -> None:
    deliver("sync")
    started = time.monotonic()

    with transaction.atomic(using=AUDIT):
        RegistrationAuditEvent.objects.using(AUDIT).create(success=True)  # SQLite: holds the only write lock
        with process("Import"):
            pass
    elapsed = time.monotonic() - started

    assert flush(5) == 0
    assert ProcessAuditEvent.objects.using(AUDIT).count() == 1
    assert elapsed < 2


@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_plain_span_that_ends_outside_a_request_becomes_a_row(deliver: Callable[..., Path], delivery: str) -> None:
    deliver(delivery)
    site_tracer()

    with trace.get_tracer("shop").start_as_current_span("Import", attributes={"audit.kind": "process"}):
        pass

    until(lambda: ProcessAuditEvent.objects.using(AUDIT).count() == 1)
    assert flush(5) == 0


@pytest.mark.parametrize("delivery", ["spool", "sync"])
async def test_process_of_an_event_loop_becomes_rows(deliver: Callable[..., Path], delivery: str) -> None:
    deliver(delivery)

    async with process("Import") as p, p.step("Read") as s:
        s.register(True, "file")
    with process("In a sync block"):
        pass

    assert await in_thread(lambda: flush(5)) == 0
    assert (await in_thread(rows))["process"] == 2


# ── trouble ─────────────────────────────────────────────────────────────────────────────────────────


def test_missing_tables_cost_no_response_and_no_record(
    deliver: Callable[..., Path], client: Client, away: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    deliver("spool")
    away()

    for _ in range(3):
        assert client.get("/shop/").content == b"sold"
    left = flush(0.2)
    waiting = status()["pending"]
    away()

    assert left == waiting == 12
    until(lambda: flush(5) == 0)
    assert rows() == each(3)


def test_missing_tables_under_sync_go_to_the_spool_and_arrive_later(
    deliver: Callable[..., Path], client: Client, away: Callable[[], None]
) -> None:
    directory = deliver("sync")
    away()

    responses = [client.get("/shop/").content for _ in range(3)]
    lying = len(spooled(directory))
    away()

    assert responses == [b"sold"] * 3
    assert lying == 12
    until(lambda: flush(5) == 0)
    assert rows() == each(3)


@pytest.mark.parametrize("intents", ["off", "record"])
def test_what_fell_back_to_the_spool_under_sync_is_accounted_for(
    deliver: Callable[..., Path], client: Client, away: Callable[[], None], intents: str
) -> None:
    deliver("sync", INTENTS=intents)
    client.get("/shop/")
    before = books()
    away()
    for _ in range(3):
        client.get("/shop/")
    outage = books()
    away()
    with pipeline._pump_lock:
        pipeline._deliver([make_record(at="not a time")], conf.delivery)
    until(lambda: flush(5) == 0)

    assert before == {"captured": 4, "stored": 4, "pending": 0, "quarantined": 0, "lost": 0}
    assert outage == {"captured": 16, "stored": 4, "pending": 12, "quarantined": 0, "lost": 0}
    assert books() == {"captured": 17, "stored": 16, "pending": 0, "quarantined": 1, "lost": 0}


def books() -> dict[str, int]:
    """Return what became of the records, so far as it is said."""
    found = status()
    return {name: found[name] for name in ("captured", "stored", "pending", "quarantined", "lost")}


def test_dead_database_is_not_asked_again_for_every_request(
    deliver: Callable[..., Path], client: Client, away: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("sync")
    asked: list[int] = []
    write = pipeline._direct._write
    monkeypatch.setattr(pipeline._direct, "_write", lambda payloads: (asked.append(1), write(payloads))[1])
    away()

    for _ in range(5):
        client.get("/shop/")
    away()

    assert len(asked) == 1
    until(lambda: flush(5) == 0)
    assert rows() == each(5)


@pytest.mark.parametrize("spoil", UNUSABLE)
def test_unusable_spool_is_written_around(
    deliver: Callable[..., Path], client: Client, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    spoil(deliver("spool"))

    with caplog.at_level(logging.ERROR):
        response = client.get("/shop/")

    assert response.content == b"sold"
    assert rows() == each(1)
    assert flush(5) == 0
    assert "spool" in caplog.text
    assert status()["stored"] == 4


def test_records_in_a_spool_that_has_become_unusable_are_not_said_to_be_stored(
    deliver: Callable[..., Path], client: Client
) -> None:
    directory = deliver("spool", DRAIN="external")
    client.get("/shop/")
    directory.chmod(0o777)

    with pytest.raises(SpoolError, match="chmod 700"):
        flush(0.2)
    directory.chmod(0o700)

    assert flush(5) == 0
    assert rows() == each(1)


def test_records_in_a_spool_that_is_gone_are_not_said_to_be_stored(
    deliver: Callable[..., Path], client: Client
) -> None:
    directory = deliver("spool", DRAIN="external")
    assert flush(0.2) == 0
    client.get("/shop/")
    unmounted = directory.rename(directory.with_name("unmounted"))

    with pytest.raises(SpoolError, match="is not there"):
        flush(0.2)
    unmounted.rename(directory)

    assert flush(5) == 0
    assert rows() == each(1)


@pytest.mark.parametrize("drain", ["thread", "external"])
def test_flush_says_so_when_the_process_has_no_descriptor_left_to_read_the_spool(
    deliver: Callable[..., Path], client: Client, away: Callable[[], None], drain: str
) -> None:
    deliver("spool", DRAIN=drain)
    away()
    client.get("/shop/")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(SpoolError, match="Too many open files"):
            flush(0.2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    away()

    until(lambda: flush(5) == 0)
    assert rows() == each(1)


async def test_unusable_spool_is_written_around_in_an_event_loop(
    deliver: Callable[..., Path], async_client: AsyncClient
) -> None:
    directory = deliver("spool")
    directory.write_text("a file stands in its place")

    response = await async_client.get("/ashop/")

    assert response.content == b"sold"
    assert await in_thread(rows) == each(1)


def test_spool_that_can_be_written_again_is_drained_again(deliver: Callable[..., Path], client: Client) -> None:
    directory = deliver("spool")
    directory.write_text("a file stands in its place")
    client.get("/shop/")

    directory.unlink()
    pipeline._draining._not_before = 0.0
    client.get("/shop/")

    until(lambda: rows() == each(2))
    assert segments(directory) == [] or flush(5) == 0


def test_both_ways_closed_the_record_is_held_and_arrives_later(
    deliver: Callable[..., Path],
    client: Client,
    away: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(direct, "PAUSE_S", 0.01)
    directory = deliver("spool")
    directory.write_text("a file stands in its place")
    away()

    response = client.get("/shop/")
    held = status()["held"]
    left = flush(0.1)
    away()

    assert response.content == b"sold"
    assert held == left == 4
    until(lambda: rows() == each(1))  # no request comes: the pump's thread tries again
    assert status()["held"] == 0


def test_too_much_is_held_and_the_oldest_is_counted_as_lost(
    deliver: Callable[..., Path], away: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_audit_exporters.pipeline.MAX_HELD", 3)
    deliver("spool").write_text("a file stands in its place")
    away()

    for number in range(5):
        with process(f"number {number}"):
            pass
    found = status()
    away()

    assert (found["held"], found["lost"], found["captured"]) == (3, 2, 5)
    monkeypatch.setattr(pipeline._direct, "_not_before", 0.0)
    assert flush(5) == 0
    assert set(ProcessAuditEvent.objects.using(AUDIT).values_list("name", flat=True)) == {
        "number 2",
        "number 3",
        "number 4",
    }


def test_record_that_no_database_takes_goes_to_quarantine_under_sync(deliver: Callable[..., Path]) -> None:
    directory = deliver("sync")
    bad = make_record(at="not a time")
    good = make_record("good")

    with pipeline._pump_lock:
        pipeline._deliver([bad, good], conf.delivery)

    assert [row.name for row in RegistrationAuditEvent.objects.using(AUDIT).all()] == ["good"]
    assert flush(5) == 0
    (entry,) = quarantine.entries(directory, conf.fingerprint)
    assert entry.reason == "poison"
    assert bad.id in entry.data.decode()
    assert status()["stored"] == 1


def test_record_that_neither_database_nor_quarantine_takes_is_counted_as_lost(deliver: Callable[..., Path]) -> None:
    deliver("sync").write_text("a file stands in its place")

    with pipeline._pump_lock:
        pipeline._deliver([make_record(at="not a time"), make_record("good")], conf.delivery)

    found = status()
    assert (found["held"], found["lost"], found["stored"]) == (0, 1, 1)


def test_second_record_with_the_same_id_overwrites_nothing(deliver: Callable[..., Path]) -> None:
    deliver("sync")
    identity = record_id()

    for name in ("first", "second", "first"):
        with pipeline._pump_lock:
            pipeline._deliver([make_record(name, identity=identity)], conf.delivery)

    assert [row.name for row in RegistrationAuditEvent.objects.using(AUDIT).all()] == ["first"]


def test_signal_that_ends_the_worker_in_the_middle_of_a_delivery_loses_nothing(
    deliver: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("sync")

    def exit_now(payloads: Any) -> Any:
        raise SystemExit(1)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline._direct, "_write", exit_now)
        with pytest.raises(SystemExit), process("Import"):
            pass

    assert status()["held"] == 1
    assert flush(5) == 0
    assert ProcessAuditEvent.objects.using(AUDIT).count() == 1


def test_signal_handler_that_records_in_the_middle_of_a_delivery_does_not_deadlock(
    deliver: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("sync")
    write = pipeline._direct._write

    def interrupted(payloads: Any) -> Any:
        os.kill(os.getpid(), signal.SIGUSR1)
        return write(payloads)

    def handle(*args: Any) -> None:
        with process("In the handler"):
            pass

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(pipeline._direct, "_write", interrupted)
            with process("Import"):
                pass
    finally:
        signal.signal(signal.SIGUSR1, before)

    until(lambda: ProcessAuditEvent.objects.using(AUDIT).count() == 2)


def test_bug_in_the_delivery_costs_no_record(deliver: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    deliver("spool")
    monkeypatch.setattr(edges, "reraise", False)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_deliver", lambda records: 1 / 0)
        with process("Import"):
            pass

    assert flush(5) == 0
    assert ProcessAuditEvent.objects.using(AUDIT).count() == 1


def test_receiver_of_an_alarm_may_record_something_itself(
    deliver: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarm, "_raised_at", {})
    directory = deliver("spool")
    directory.write_text("a file stands in its place")

    def tell(**kwargs: Any) -> None:
        with process("Tell the operator"):
            pass

    audit_delivery_failed.connect(tell)
    try:
        with process("Import"):
            pass
    finally:
        audit_delivery_failed.disconnect(tell)

    until(lambda: ProcessAuditEvent.objects.using(AUDIT).filter(name="Tell the operator").exists())
    assert ProcessAuditEvent.objects.using(AUDIT).filter(name="Import").count() == 1


# ── no spans of its own ─────────────────────────────────────────────────────────────────────────────


class Counting(SpanProcessor):
    """Counts every span, and runs a query in each as a database instrumentation would."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        """Note the name."""
        self.names.append(span.name)

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing."""


@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_writing_creates_no_span(deliver: Callable[..., Path], client: Client, settings: Any, delivery: str) -> None:
    counting = Counting()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(counting)
    trace.set_tracer_provider(provider)
    deliver(delivery)
    tracer = trace.get_tracer("database instrumentation")

    def instrument(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not is_instrumentation_enabled():
            return execute(sql, params, many, context)
        with tracer.start_as_current_span("SQL"):
            return execute(sql, params, many, context)

    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(instrument))
        client.get("/shop/")  # asks MariaDB for its version, once a connection
        counting.names.clear()
        client.get("/shop/")
        flush(5)
        audited = counting.names.count("SQL")
        settings.MIDDLEWARE = [entry for entry in settings.MIDDLEWARE if not entry.startswith("otel_audit.")]
        client.get("/shop/")
        bare = counting.names.count("SQL") - audited

    outside = [name for name in counting.names if name not in ("GET", "Sell", "Pay", "SQL")]
    assert outside == []
    assert audited == bare > 0


# ── processes ───────────────────────────────────────────────────────────────────────────────────────

FORK = """
import os, sys
from pathlib import Path
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="x" * 50,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "otel_audit"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1] + "/db.sqlite3",
                           "OPTIONS": {"timeout": 20}}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    OTEL_AUDIT={"SPOOL_DIR": sys.argv[1] + "/spool"},
    USE_TZ=True,
)
django.setup()
"""

CHILDREN = (
    FORK
    + """
import multiprocessing
from django.core.management import call_command
from opentelemetry import trace
from otel_audit import flush, process, step
from otel_audit.models import ProcessAuditEvent, StepAuditEvent

def work(number):
    with process(f"child {number}"), step("work") as s:
        s.register(True, "done")
    with trace.get_tracer("shop").start_as_current_span(f"plain {number}", attributes={"audit.kind": "process"}):
        pass
    assert flush(10) == 0

def work_and_vanish(number):
    with process(f"vanished {number}"):
        pass
    os._exit(0)

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    with process("parent"):
        pass
    assert flush(10) == 0
    method = multiprocessing.get_context("fork")
    children = [method.Process(target=target, args=(n,)) for n in range(3) for target in (work, work_and_vanish)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0, child.exitcode
    with process("parent again"):
        pass
    assert flush(10) == 0
    names = sorted(ProcessAuditEvent.objects.values_list("name", flat=True))
    expected = sorted(["parent", "parent again"] + [f"{kind} {n}" for n in range(3)
                                                   for kind in ("child", "plain", "vanished")])
    assert names == expected, names
    assert StepAuditEvent.objects.count() == 3
    print("done")
"""
)

LATER = (
    FORK.replace('"/db.sqlite3"', '"/later/db.sqlite3"').replace(
        '"otel_audit"],',
        '"otel_audit"], ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"],\n'
        '    MIDDLEWARE=["otel_audit.middleware.AuditMiddleware"],',
    )
    + """
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from otel_audit import flush, status
from otel_audit.models import RequestAuditEvent
urlpatterns = [path("shop/", lambda request: HttpResponse("sold"))]
assert [Client().get("/shop/").content for _ in range(3)] == [b"sold"] * 3
assert (flush(0.3), status()["pending"]) == (3, 3)
os.mkdir(sys.argv[1] + "/later")
assert flush(0.3) == 3
call_command("migrate", verbosity=0)
assert flush(20) == 0
print(RequestAuditEvent.objects.count(), status()["stored"], status()["pending"], status()["lost"])
"""
)

FORK_IN_REQUEST = (
    FORK.replace(
        '"otel_audit"],',
        '"otel_audit"], ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"],\n'
        '    MIDDLEWARE=["otel_audit.middleware.AuditMiddleware"],',
    )
    + """
import multiprocessing
from django.core.management import call_command
from django.db import connections
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from otel_audit import flush, process, step
from otel_audit.models import ProcessAuditEvent, RegistrationAuditEvent, RequestAuditEvent, StepAuditEvent

def work():
    with process("in the child") as p, p.step("work") as s:
        s.register(True, "done")

def view(request):
    connections.close_all()
    with process("around the fork"):
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join(30)
    return HttpResponse(str(child.exitcode))

urlpatterns = [path("shop/", view)]
call_command("migrate", verbosity=0)
connections.close_all()
assert Client().get("/shop/").content == b"0"
assert flush(20) == 0
request = RequestAuditEvent.objects.get()
print(sorted(request.processes.values_list("name", flat=True)),
      StepAuditEvent.objects.count(), RegistrationAuditEvent.objects.count())
"""
)

AFTER_TESTS = (
    FORK
    + """
from django.core.management import call_command
from django.test.utils import setup_test_environment, teardown_test_environment
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from otel_audit import process
from otel_audit.testing import capture
from otel_audit_exporters import AuditSpanProcessor
call_command("migrate", verbosity=0)
setup_test_environment()
provider = TracerProvider()
provider.add_span_processor(AuditSpanProcessor())
trace.set_tracer_provider(provider)
with capture() as records, process("captured"):
    pass
with process("in a test"):
    pass
with trace.get_tracer("shop").start_as_current_span("plain in a test", attributes={"audit.kind": "process"}):
    pass
teardown_test_environment()
print(len(records.processes))
"""
)

PLAIN_EXIT = (
    FORK
    + """
from django.core.management import call_command
from opentelemetry import trace
from otel_audit.provider import site_tracer
if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    site_tracer()
    with trace.get_tracer("shop").start_as_current_span("last words", attributes={"audit.kind": "process"}):
        pass
"""
)


def run(script: str, directory: Path, **environment: str) -> str:
    """Run a script as a process of its own; return what it says."""
    file = directory / "script.py"
    file.write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(file), str(directory)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.django_db(databases=[])
def test_forked_children_deliver_what_is_theirs(tmp_path: Path) -> None:
    assert run(CHILDREN, tmp_path) == "done\n"


@pytest.mark.django_db(databases=[])
def test_nothing_of_a_sites_tests_goes_to_its_real_trail_when_they_end(tmp_path: Path) -> None:
    assert run(AFTER_TESTS, tmp_path) == "1\n"

    assert spooled(tmp_path / "spool") == []
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        assert database.execute("SELECT name FROM otel_audit_processauditevent").fetchall() == []


@pytest.mark.django_db(databases=[])
def test_child_that_is_forked_inside_a_request_delivers_what_is_its_own(tmp_path: Path) -> None:
    assert run(FORK_IN_REQUEST, tmp_path) == "['around the fork', 'in the child'] 1 1\n"


@pytest.mark.django_db(databases=[])
def test_database_that_is_made_later_gets_everything(tmp_path: Path) -> None:
    assert run(LATER, tmp_path) == "3 3 0 0\n"


@pytest.mark.django_db(databases=[])
def test_plain_span_that_ends_just_before_the_process_is_in_the_spool(tmp_path: Path) -> None:
    run(PLAIN_EXIT, tmp_path)

    spool = [found["span"]["name"] for found in spooled(tmp_path / "spool")]
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        stored = [name for (name,) in database.execute("SELECT name FROM otel_audit_processauditevent")]
    assert "last words" in (*spool, *stored)
