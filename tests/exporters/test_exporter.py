"""The stock route: a span exporter for any span processor, without a middleware and without our processor."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.test import override_settings
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, format_trace_id

from otel_audit import edges
from otel_audit.models import (
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit.provider import site_tracer
from otel_audit.testing import capture
from otel_audit_exporters import AuditSpanProcessor, DatabaseSpanExporter
from otel_audit_exporters.pipeline import pipeline

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "audit"]),
    pytest.mark.usefixtures("fresh_provider", "fresh_pipeline"),
]

AUDIT = "audit"
OLD = {
    "http.method": "POST",
    "http.url": "http://shop/tea/7/?token=hunter2&n=1",
    "http.target": "/tea/7/",
    "http.scheme": "http",
    "http.status_code": 201,
    "http.route": "tea/<int:pk>/",
    "http.user_agent": "kettle/1.0",
    "net.peer.ip": "192.0.2.7",
}
STABLE = {
    "http.request.method": "POST",
    "url.path": "/tea/7/",
    "url.query": "token=hunter2&n=1",
    "url.scheme": "http",
    "http.response.status_code": 201,
    "http.route": "tea/<int:pk>/",
    "user_agent.original": "kettle/1.0",
    "client.address": "192.0.2.7",
}


class Site:
    """A site that has set up OpenTelemetry with our exporter alone."""

    def __init__(self, kind: Any) -> None:
        self.exporter = DatabaseSpanExporter()
        self.processor = kind(self.exporter)
        self.provider = TracerProvider(shutdown_on_exit=False, resource=Resource.create({"service.name": "tea-shop"}))
        self.provider.add_span_processor(self.processor)
        self.begin = self.provider.get_tracer("shop").start_as_current_span

    def flush(self) -> None:
        """Export what has ended."""
        self.provider.force_flush()


@pytest.fixture(params=[SimpleSpanProcessor, BatchSpanProcessor], ids=["simple", "batch"])
def site(request: pytest.FixtureRequest) -> Any:
    """The site, with either processor of the SDK."""
    found = Site(request.param)
    yield found
    found.provider.shutdown()


def sell(site: Site, attributes: dict[str, Any]) -> None:
    """Serve one request that runs a process."""
    with (
        site.begin("POST tea/<int:pk>/", kind=SpanKind.SERVER, attributes=attributes) as request,
        site.begin("Sell", attributes={"audit.kind": "process", "sku": "A-1"}),
    ):
        with site.begin("Pay", attributes={"audit.kind": "step", "audit.step.expected_registrations": 2}) as step:
            for name in ("card", "amount"):
                step.add_event(
                    "audit.registration", {"audit.registration.name": name, "audit.registration.success": True}
                )
        with site.begin("SELECT"):
            pass
        with site.begin("Pack", attributes={"audit.kind": "step"}):
            pass
        request.add_event("audit.login", {"audit.action": "LOGIN", "audit.login.method": "kiosk"})


@pytest.mark.parametrize("attributes", [OLD, STABLE], ids=["old", "stable"])
def test_spans_become_linked_rows(site: Site, attributes: dict[str, Any]) -> None:
    sell(site, attributes)
    site.flush()

    request = RequestAuditEvent.objects.using(AUDIT).get()
    process = ProcessAuditEvent.objects.using(AUDIT).get()
    pay, pack = StepAuditEvent.objects.using(AUDIT).order_by("order")
    registrations = RegistrationAuditEvent.objects.using(AUDIT).order_by("id")
    login = LoginAuditEvent.objects.using(AUDIT).get()
    assert process.request_id == login.request_id == request.id
    assert (process.name, process.extra_informations) == ("Sell", {"sku": "A-1"})
    assert pay.process_id == pack.process_id == process.id
    assert [(row.order, row.name, row.total_registrations) for row in (pay, pack)] == [(1, "Pay", 2), (2, "Pack", 1)]
    assert [(row.step_id, row.name) for row in registrations] == [(pay.id, "card"), (pay.id, "amount")]
    assert {row.service_name for row in (request, process, pay, login)} == {"tea-shop"}
    assert {row.trace_id for row in (request, process, pay)} == {request.trace_id}


@pytest.mark.parametrize("attributes", [OLD, STABLE], ids=["old", "stable"])
def test_request_is_as_complete_as_its_attributes(site: Site, attributes: dict[str, Any]) -> None:
    sell(site, attributes)
    site.flush()

    row = RequestAuditEvent.objects.using(AUDIT).get()
    assert (row.method, row.url, row.route, row.status_code) == ("POST", "/tea/7/", "tea/<int:pk>/", 201)
    assert (row.request_type, row.user_agent, row.ip_addresses) == ("http", "kettle/1.0", "192.0.2.7")
    assert (row.action, row.outcome) == ("CREATE", "success")
    assert (row.user, row.actor_name) == (None, "unknown")
    assert "n=1" in (row.query_params or "")
    assert "hunter2" not in str([getattr(row, field.name) for field in row._meta.concrete_fields])
    assert row.response_time is not None


def test_exception_is_recorded(site: Site) -> None:
    with pytest.raises(ValueError, match="no tea"), site.begin("GET", kind=SpanKind.SERVER, attributes=STABLE):
        raise ValueError("no tea")
    site.flush()

    row = RequestAuditEvent.objects.using(AUDIT).get()
    assert (row.error_type, row.error_message) == ("ValueError", "no tea")
    assert "raise ValueError" in (row.error_stacktrace or "")


def test_parent_elsewhere_is_no_row_here(site: Site) -> None:
    context = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1))
    parent = trace.set_span_in_context(NonRecordingSpan(context))

    with site.begin("GET", context=parent, kind=SpanKind.SERVER, attributes=STABLE):
        pass
    site.flush()

    row = RequestAuditEvent.objects.using(AUDIT).get()
    assert (row.trace_id, row.parent_span_id) == (format_trace_id(7), "0" * 15 + "8")


def test_requests_with_the_same_trace_id_are_two_rows(site: Site) -> None:
    context = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1))
    parent = trace.set_span_in_context(NonRecordingSpan(context))

    for _ in range(2):
        with site.begin("GET", context=parent, kind=SpanKind.SERVER, attributes=STABLE):
            pass
    site.flush()

    assert RequestAuditEvent.objects.using(AUDIT).count() == 2


def test_ordinary_span_between_hides_nothing(site: Site) -> None:
    with (
        site.begin("GET", kind=SpanKind.SERVER, attributes=STABLE),
        site.begin("middleware"),
        site.begin("Sell", attributes={"audit.kind": "process"}),
        site.begin("SELECT"),
        site.begin("cache"),
        site.begin("Pay", attributes={"audit.kind": "step", "audit.step.order": 5}),
    ):
        pass
    site.flush()

    process = ProcessAuditEvent.objects.using(AUDIT).get()
    step = StepAuditEvent.objects.using(AUDIT).get()
    assert (step.process_id, step.order) == (process.id, 5)
    assert process.request_id == RequestAuditEvent.objects.using(AUDIT).get().id


def test_threads_may_export_side_by_side() -> None:
    site = Site(SimpleSpanProcessor)

    def work() -> None:
        for _ in range(20):
            with (
                site.begin("Sell", attributes={"audit.kind": "process"}),
                site.begin("SELECT"),
                site.begin("Pay", attributes={"audit.kind": "step"}),
            ):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    processes = set(ProcessAuditEvent.objects.using(AUDIT).values_list("id", flat=True))
    assert len(processes) == 80
    assert set(StepAuditEvent.objects.using(AUDIT).values_list("process_id", flat=True)) == processes


def test_span_that_ends_inside_a_transaction_is_not_rolled_back_with_it(site: Site) -> None:
    with transaction.atomic():
        sell(site, STABLE)
        transaction.set_rollback(True)
    site.flush()

    assert RequestAuditEvent.objects.using(AUDIT).count() == 1


async def test_span_that_ends_in_an_event_loop_is_written(site: Site) -> None:
    sell(site, STABLE)
    await sync_to_async(site.flush)()

    def count() -> int:
        try:
            return RequestAuditEvent.objects.using(AUDIT).count()
        finally:
            connections.close_all()

    assert await sync_to_async(count)() == 1


def test_span_whose_parent_is_long_forgotten_is_still_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_audit_exporters.exporter._MAX_NODES", 5)
    site = Site(SimpleSpanProcessor)

    with site.begin("Sell", attributes={"audit.kind": "process"}):
        for _ in range(20):
            with site.begin("Pay", attributes={"audit.kind": "step"}):
                pass

    assert StepAuditEvent.objects.using(AUDIT).count() == 20
    assert len(site.exporter._lineage._nodes) <= 5


def test_step_without_a_process_is_written_without_one(site: Site) -> None:
    with site.begin("Pay", attributes={"audit.kind": "step"}):
        pass
    site.flush()

    assert StepAuditEvent.objects.using(AUDIT).get().process_id is None


# ── its answers ─────────────────────────────────────────────────────────────────────────────────────


def spans_of(work: Callable[[Any], None] = lambda begin: None) -> Sequence[ReadableSpan]:
    """Return ended spans: one process and what ``work`` adds."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    begin = provider.get_tracer("shop").start_as_current_span
    with begin("Sell", attributes={"audit.kind": "process"}):
        work(begin)
    return exporter.get_finished_spans()


def test_success_means_that_the_rows_are_there() -> None:
    assert DatabaseSpanExporter().export(spans_of()) is SpanExportResult.SUCCESS

    assert ProcessAuditEvent.objects.using(AUDIT).count() == 1


@pytest.mark.urls("tests.links_urls")
@pytest.mark.parametrize(
    "address",
    [
        {"http.url": "http://shop/invitation/hunter2/?next=/invitation/hunter2/"},
        {"http.target": "/invitation/hunter2?next=%2Finvitation%2Fhunter2", "http.route": "invitation/<token>/"},
        {"url.path": "/invitation/hunter2/", "url.query": "next=/invitation/hunter2/"},
        {"url.full": "https://shop/invitation/hunter2/?next=/invitation/hunter2/"},
    ],
)
def test_address_is_masked_by_its_route(site: Site, address: dict[str, str]) -> None:
    with site.begin("GET", kind=SpanKind.SERVER, attributes=address):
        pass
    site.flush()

    row = RequestAuditEvent.objects.using(AUDIT).get()
    assert (row.url or "").startswith("/invitation/[redacted]")
    assert (row.query_params or "").startswith("next=/invitation/[redacted]")


@override_settings(OTEL_AUDIT={"DATABASE": AUDIT, "ENABLED": False})
def test_switched_off_nothing_is_written(site: Site) -> None:
    sell(site, STABLE)

    assert site.provider.force_flush()
    assert site.exporter.export([]) is SpanExportResult.SUCCESS
    assert RequestAuditEvent.objects.using(AUDIT).count() == 0


def test_nothing_to_write_is_success() -> None:
    exporter = DatabaseSpanExporter()

    assert exporter.export([]) is SpanExportResult.SUCCESS
    assert exporter.force_flush() is True


def test_same_spans_again_are_the_same_rows() -> None:
    exporter, spans = DatabaseSpanExporter(), spans_of()

    results = [exporter.export(spans) for _ in range(2)]

    assert results == [SpanExportResult.SUCCESS] * 2
    assert ProcessAuditEvent.objects.using(AUDIT).count() == 1


def test_database_that_is_away_is_failure_and_raises_nothing(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(edges, "_last_logged", {})
    exporter, spans = DatabaseSpanExporter(), spans_of()
    table = ProcessAuditEvent._meta.db_table
    with connections[AUDIT].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        with caplog.at_level(logging.ERROR):
            first = exporter.export(spans)
    finally:
        with connections[AUDIT].cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")

    second = exporter.export(spans)

    assert (first, second) == (SpanExportResult.FAILURE, SpanExportResult.SUCCESS)
    assert "DatabaseSpanExporter.export" in caplog.text
    assert ProcessAuditEvent.objects.using(AUDIT).count() == 1


def test_record_that_is_refused_is_failure_and_costs_no_other(settings: Any, tmp_path: Any) -> None:
    settings.OTEL_AUDIT = {"DATABASE": AUDIT, "SPOOL_DIR": str(tmp_path / "spool")}

    def work(begin: Any) -> None:
        with begin("Pay", attributes={"audit.kind": "step"}) as span:
            span.add_event("audit.registration", {"audit.registration.name": "late"}, timestamp=10**30)

    result = DatabaseSpanExporter().export(spans_of(work))

    assert result is SpanExportResult.FAILURE
    assert ProcessAuditEvent.objects.using(AUDIT).count() == 1
    assert StepAuditEvent.objects.using(AUDIT).count() == 1
    assert RegistrationAuditEvent.objects.using(AUDIT).count() == 0


def test_after_shutdown_everything_is_failure() -> None:
    exporter = DatabaseSpanExporter()
    exporter.shutdown()

    assert exporter.export(spans_of()) is SpanExportResult.FAILURE


def test_it_stands_down_beside_our_own_processor(caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(DatabaseSpanExporter()))
    trace.set_tracer_provider(provider)

    with capture() as records, caplog.at_level(logging.INFO, logger="otel_audit.delivery"):
        site_tracer()
        for _ in range(2):
            with trace.get_tracer("shop").start_as_current_span("Sell", attributes={"audit.kind": "process"}):
                pass

    assert len(records.processes) == 2
    assert ProcessAuditEvent.objects.using(AUDIT).count() == 0
    assert caplog.text.count("stands down") == 1


def test_writing_makes_no_span(site: Site) -> None:
    seen: list[str] = []

    class Watching(AuditSpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.append(span.name)

    site.provider.add_span_processor(Watching())

    sell(site, STABLE)
    site.flush()

    assert seen == ["POST tea/<int:pk>/", "Sell", "Pay", "SELECT", "Pack"]
    assert pipeline.counts["written"] == 7
