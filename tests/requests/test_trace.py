"""The audit row and the trace are the same thing, and no header of a client switches a record off."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from django.test import override_settings
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id

from otel_audit.keyed import actor_hash
from otel_audit.testing import AuditRecords
from otel_audit_exporters.otlp import _OrdinarySpans
from otel_audit_exporters.pipeline import pipeline

from .conftest import SOURCES, URLS
from .doors import Door

pytestmark = pytest.mark.urls(URLS)

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.mark.parametrize("flag", ["00", "01"])
def test_flag_of_a_client_switches_nothing_off(door: Door, records: AuditRecords, span_source: str, flag: str) -> None:
    door.get("/hello/", headers={"Traceparent": f"00-{TRACE}-{PARENT}-{flag}"})

    (row,) = records.requests
    assert row.trace_id == TRACE
    assert row.span_id != PARENT


@pytest.mark.parametrize(("flag", "said"), [("00", {"sampled": False}), ("01", {})])
def test_the_record_says_when_the_site_leaves_its_trace_out_of_what_is_forwarded(
    door: Door, fresh_provider: None, flag: str, said: dict[str, bool]
) -> None:
    with pipeline.capture() as envelopes:
        door.get("/hello/", headers={"Traceparent": f"00-{TRACE}-{PARENT}-{flag}"})

    (span,) = [envelope["span"] for envelope in envelopes]
    assert {key: span[key] for key in ("sampled",) if key in span} == said


def test_trace_id_that_comes_twice_makes_two_records(door: Door, records: AuditRecords, span_source: str) -> None:
    for _ in range(2):
        door.get("/hello/", headers={"Traceparent": f"00-{TRACE}-{PARENT}-01"})

    first, second = records.requests
    assert first.id != second.id
    assert first.span_id != second.span_id
    assert first.trace_id == second.trace_id == TRACE


@pytest.mark.parametrize(
    "headers",
    [
        {"Traceparent": "00-nonsense-01"},
        {"Traceparent": f"00-{'0' * 32}-{PARENT}-01"},
        {"Traceparent": f"ff-{TRACE}-{PARENT}-01"},
        {"Traceparent": "x" * 5000},
        {"Traceparent": ""},
        {"Tracestate": "audit.kind=step,audit.record.id=1"},
        {"Tracestate": "=" * 5000},
        {"Baggage": "audit.kind=process,audit.record.id=00000000-0000-7000-8000-000000000000"},
        {"Baggage": "%zz=%zz;;;,,,=" * 500},
        {"X-Request-Id": "1", "X-Correlation-Id": "2", "Audit-Record-Id": "3"},
    ],
)
def test_other_headers_of_a_trace_change_nothing(
    door: Door, records: AuditRecords, span_source: str, headers: dict[str, str]
) -> None:
    reply = door.get("/hello/", headers=headers)

    (row,) = records.requests
    assert reply.status == 200
    assert re.fullmatch("[0-9a-f]{32}", row.trace_id)
    assert row.trace_id not in (TRACE, "0" * 32)
    assert row.extra_informations is None
    assert records.processes == records.steps == []


@pytest.mark.parametrize("source", ["lean", "otel"])
def test_row_is_the_server_span_that_the_site_exports(
    door: Door, forwarded: InMemorySpanExporter, records: AuditRecords, request: pytest.FixtureRequest, source: str
) -> None:
    if source == "otel":
        request.getfixturevalue("otel_django")

    door.get("/item/7/")

    (row,) = records.requests
    (span,) = forwarded.get_finished_spans()
    assert span.kind is SpanKind.SERVER
    assert (row.trace_id, row.span_id) == (
        format_trace_id(span.context.trace_id),
        format_span_id(span.context.span_id),
    )
    assert span.name == "GET item/<int:pk>/" or span.name == "GET item/<int:pk>"


def test_lean_span_speaks_the_stable_conventions(
    door: Door, forwarded: InMemorySpanExporter, records: AuditRecords
) -> None:
    door.get("/item/7/?token=s3cret", headers={"User-Agent": "kettle/1.0", "X-Forwarded-For": "203.0.113.9"})

    (span,) = forwarded.get_finished_spans()
    (row,) = records.requests
    assert dict(span.attributes or {}) == {
        "code.function.name": "tests.requests.views.item",
        "http.request.method": "GET",
        "url.path": "/item/7/",
        "url.scheme": "http",
        "user_agent.original": "kettle/1.0",
        "http.route": "item/<int:pk>/",
        "http.response.status_code": 200,
        "audit.record.id": str(row.id),
    }


@pytest.mark.parametrize("source", ["lean", "otel"])
@pytest.mark.parametrize("path", ["/whoami/", "/awhoami/", "/api/who/"])
def test_span_says_who_acted_in_which_session_whoever_starts_it(
    door: Door,
    forwarded: InMemorySpanExporter,
    records: AuditRecords,
    session: dict[str, str],
    request: pytest.FixtureRequest,
    source: str,
    path: str,
) -> None:
    if source == "otel":
        request.getfixturevalue("otel_django")

    door.get(path, headers=session)
    door.get(path)

    (told, nobody), (row, _) = forwarded.get_finished_spans(), sorted(records.requests, key=lambda row: row.id)
    attributes = dict(told.attributes or {})
    assert (attributes["user.hash"], attributes["session.id"]) == (actor_hash(row.user), row.session_id)
    assert attributes["audit.record.id"] == str(row.id)
    assert attributes["code.function.name"].startswith("tests.requests.views.")
    assert {"user.hash", "session.id"}.isdisjoint(nobody.attributes or {})


@pytest.mark.parametrize("source", ["lean", "otel"])
def test_span_of_another_instrumentation_asks_nobody_who_acts(
    door: Door,
    forwarded: InMemorySpanExporter,
    records: AuditRecords,
    session: dict[str, str],
    request: pytest.FixtureRequest,
    source: str,
) -> None:
    if source == "otel":
        request.getfixturevalue("otel_django")

    reply = door.get("/hello/", headers=session)

    (span,) = forwarded.get_finished_spans()
    assert ("user.hash" in (span.attributes or {})) is (source == "lean")  # ours ends when the guard has asked
    assert records.requests[0].actor_name == "ada"
    assert reply.header("Vary") is None


def test_lean_span_of_a_crash_says_the_error_type_and_nothing_else_of_it(
    door: Door, forwarded: InMemorySpanExporter, records: AuditRecords
) -> None:
    door.get("/crash/")

    (span,) = forwarded.get_finished_spans()
    assert (span.attributes or {})["error.type"] == "ShopError"
    assert span.status.is_ok is False
    assert "till" not in span.to_json()


@pytest.mark.parametrize("source", ["lean", "otel"])
def test_site_that_samples_nothing_exports_nothing_and_records_all(
    door: Door, fresh_provider: None, records: AuditRecords, request: pytest.FixtureRequest, source: str
) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    if source == "otel":
        request.getfixturevalue("otel_django")

    for _ in range(5):
        door.get("/stream_process/" if door.name == "wsgi" else "/hello/")

    assert exporter.get_finished_spans() == ()
    assert len(records.requests) == 5


def test_excluded_urls_of_the_instrumentation_exclude_no_record(
    door: Door, otel_django: None, records: AuditRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.instrumentation.django.middleware.otel_middleware import _DjangoMiddleware
    from opentelemetry.util.http import ExcludeList

    monkeypatch.setattr(_DjangoMiddleware, "_excluded_urls", ExcludeList([".*"]))

    door.get("/hello/", headers={"Traceparent": f"00-{TRACE}-{PARENT}-00"})

    (row,) = records.requests
    assert row.trace_id == TRACE


def test_span_that_encloses_the_call_is_not_taken_for_the_request(
    door: Door, forwarded: InMemorySpanExporter, records: AuditRecords
) -> None:
    with trace.get_tracer("caller").start_as_current_span("a batch of calls") as span:
        door.get("/hello/")
        door.get("/hello/")

    first, second = records.requests
    assert format_span_id(span.get_span_context().span_id) not in (first.span_id, second.span_id)
    assert first.span_id != second.span_id


@pytest.mark.parametrize("name", ["process", "ordinary span"])
def test_what_a_view_leaves_open_does_not_reach_the_next_request(
    records: AuditRecords, settings: Any, span_source: str, name: str
) -> None:
    from .doors import WSGIDoor

    door = WSGIDoor()
    door.get("/leave_process/" if name == "process" else "/leave_span/")
    door.get("/one_step/")

    left, other = records.requests
    (step,) = records.steps
    assert left.trace_id != other.trace_id
    assert step.process_id is None
    assert step.trace_id == other.trace_id


@pytest.mark.parametrize("path", ["/login_event/", "/static/login/", "/login_event_inside/", "/static/login_inside/"])
@pytest.mark.parametrize("source", ["lean", "otel"])
def test_sign_in_of_plain_opentelemetry_is_recorded(
    door: Door, fresh_provider: None, records: AuditRecords, request: pytest.FixtureRequest, source: str, path: str
) -> None:
    if source == "otel":
        request.getfixturevalue("otel_django")

    door.get(path)

    (row,) = records.requests
    (login,) = records.logins
    assert (login.status, login.method, login.request_id) == ("Sign in", "kiosk", row.id)


@pytest.mark.parametrize("source", ["lean", "otel"])
def test_rows_of_a_request_are_of_one_trace_where_no_provider_records_spans(
    door: Door, fresh_provider: None, records: AuditRecords, request: pytest.FixtureRequest, source: str
) -> None:
    if source == "otel":
        request.getfixturevalue("otel_django")
    trace.set_tracer_provider(trace.NoOpTracerProvider())

    door.get("/one_step/", headers={"Traceparent": f"00-{TRACE}-{PARENT}-00"})

    (row,) = records.requests
    (step,) = records.steps
    assert row.trace_id == step.trace_id == TRACE
    assert step.parent_span_id == row.span_id


def test_excluded_request_in_which_a_process_runs_is_recorded(
    door: Door, records: AuditRecords, span_source: str
) -> None:
    door.get("/static/process/")

    (row,) = records.requests
    assert records.processes[0].request_id == row.id


@override_settings(DEBUG=True)
def test_threads_of_a_server_keep_their_requests_apart(records: AuditRecords, fresh_provider: None) -> None:
    from .doors import WSGIDoor

    def serve(number: int) -> None:
        for _ in range(10):
            WSGIDoor().get(f"/item/{number}/?n={number}")

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    rows = records.requests
    assert len(rows) == 40
    assert len({row.id for row in rows}) == 40
    assert all(row.url == f"/item/{(row.query_params or '')[2:]}/" for row in rows)


@pytest.mark.parametrize("span_source", SOURCES[:3], indirect=True)  # with the others the site's provider is set
def test_the_span_of_a_request_is_no_ordinary_one_which_goes_beside_the_spool(
    door: Door, records: AuditRecords, span_source: str
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_OrdinarySpans(exporter))
    trace.set_tracer_provider(provider)

    door.get("/static/process/")
    with trace.get_tracer("site").start_as_current_span("Elsewhere", kind=SpanKind.SERVER):
        pass
    provider.force_flush()

    assert len(records.requests) == 1
    assert len(records.processes) >= 1
    assert [span.name for span in exporter.get_finished_spans()] == ["Elsewhere"]
