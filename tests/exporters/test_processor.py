"""What the span processor takes, when, and that it never raises, waits or leaks."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest
from django.test import override_settings
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState

from otel_audit import edges
from otel_audit.ids import record_id
from otel_audit.provider import site_tracer
from otel_audit.testing import AuditRecords, capture
from otel_audit.trace_member import member_of
from otel_audit_exporters import AuditSpanProcessor
from otel_audit_exporters.pipeline import pipeline

PROCESS = {"audit.kind": "process"}
STEP = {"audit.kind": "step"}


@pytest.fixture
def processor() -> AuditSpanProcessor:
    """The processor of a provider that stands alone."""
    return AuditSpanProcessor()


@pytest.fixture
def tracer(processor: AuditSpanProcessor) -> trace.Tracer:
    """A tracer of that provider."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider.get_tracer("shop")


@pytest.fixture
def records() -> Iterator[AuditRecords]:
    """What was recorded."""
    with capture() as found:
        yield found


def registration(name: str = "checked", **more: Any) -> tuple[str, dict[str, Any]]:
    return "audit.registration", {
        "audit.registration.name": name,
        "audit.registration.success": True,
        **{key.replace("_", "."): value for key, value in more.items()},
    }


@pytest.mark.parametrize(("secret", "goes_on"), [("a secret between services", True), ("of two other services", False)])
def test_step_outside_any_request_goes_on_with_the_process_that_its_callers_context_names(
    tracer: trace.Tracer, records: AuditRecords, secret: str, goes_on: bool
) -> None:
    process_id, trace_id = record_id(), 7
    with override_settings(OTEL_AUDIT={"TRUSTED_PEERS": [{"secret": secret}]}):
        state = TraceState([("otel-audit", str(member_of(process_id, trace_id)))])
    caller = SpanContext(trace_id, 9, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)

    with (
        override_settings(OTEL_AUDIT={"TRUSTED_PEERS": [{"secret": "a secret between services"}]}),
        trace.use_span(trace.NonRecordingSpan(caller)),
        tracer.start_as_current_span("run/ship"),
        tracer.start_as_current_span("Ship", attributes=STEP),
    ):
        pass

    assert [str(step.process_id) for step in records.steps] == [process_id if goes_on else "None"]


@override_settings(OTEL_AUDIT={"DATABASE": "audit", "DELIVERY": "spool", "ENABLED": False})
def test_switched_off_nothing_is_taken_and_nothing_is_kept(
    processor: AuditSpanProcessor, tracer: trace.Tracer, records: AuditRecords
) -> None:
    processor.server_spans = True
    with (
        tracer.start_as_current_span("GET", kind=SpanKind.SERVER),
        tracer.start_as_current_span("Sell", attributes=PROCESS),
        tracer.start_as_current_span("Pay", attributes=STEP) as step,
    ):
        step.add_event(*registration())
    with tracer.start_as_current_span("ordinary") as ordinary:
        ordinary.add_event(*registration())

    assert pipeline._queue.empty()  # nobody would take it, however long the process lives
    assert list(records) == []
    assert "audit.record.id" not in step.attributes  # type: ignore[attr-defined]


def test_ordinary_spans_are_no_records(tracer: trace.Tracer, records: AuditRecords) -> None:
    with tracer.start_as_current_span("SELECT"), tracer.start_as_current_span("GET", kind=SpanKind.SERVER):
        pass

    assert list(records) == []


@pytest.mark.parametrize("kind", ["processes", 1, True, "", ["process"]])
def test_other_kinds_are_no_records(tracer: trace.Tracer, records: AuditRecords, kind: Any) -> None:
    with tracer.start_as_current_span("odd", attributes={"audit.kind": kind}):
        pass

    assert list(records) == []


def test_kind_that_is_set_later_is_no_record(tracer: trace.Tracer, records: AuditRecords) -> None:
    with tracer.start_as_current_span("late") as span:
        span.set_attribute("audit.kind", "process")

    assert list(records) == []


def test_flood_of_attributes_and_events_costs_no_record(tracer: trace.Tracer, records: AuditRecords) -> None:
    with (
        tracer.start_as_current_span("Bake", attributes={**PROCESS, "audit.process.description": "kept"}),
        tracer.start_as_current_span("mix", attributes={**STEP, "audit.step.order": 7}) as span,
    ):
        for number in range(1000):
            span.set_attribute(f"noise{number}", number)
            span.add_event("noise")
        for number in range(300):
            span.add_event(*registration(f"check {number}"))

    (step,) = records.steps
    assert (step.name, step.order) == ("mix", 7)
    assert len(records.registrations) == 300
    assert "span.dropped" in step.changed_fields


def test_span_limits_of_the_site_cut_texts_and_lose_no_registration(records: AuditRecords) -> None:
    limits = SpanLimits(max_attributes=2, max_events=1, max_event_attributes=8, max_attribute_length=10)
    provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
    provider.add_span_processor(AuditSpanProcessor())
    tracer = provider.get_tracer("shop")

    begin = tracer.start_as_current_span
    with begin("Bake", attributes=PROCESS), begin("mix", attributes=STEP) as span:
        span.add_event(*registration("the first of many"))
        span.add_event(*registration("second"))

    assert records.steps[0].process_id == records.processes[0].id
    assert [row.name for row in records.registrations] == ["the first ", "second"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("01a20d9f-832f-783f-9b7c-aa7c7111c3ac", True),
        ("not-a-uuid", False),
        ("00000000-0000-4000-8000-000000000000", False),
        (7, False),
    ],
)
def test_record_id_that_a_span_brings_is_kept_when_it_is_one(
    tracer: trace.Tracer, records: AuditRecords, given: Any, kept: bool
) -> None:
    with tracer.start_as_current_span("Bake", attributes={**PROCESS, "audit.record.id": given}) as span:
        pass

    (row,) = records.processes
    assert (str(row.id) == given) is kept
    assert span.attributes["audit.record.id"] == str(row.id)


@pytest.mark.parametrize("order", ["first", 1.5, True, "7"])
def test_order_that_is_no_number_is_replaced_by_the_order_of_the_start(
    tracer: trace.Tracer, records: AuditRecords, order: Any
) -> None:
    begin = tracer.start_as_current_span
    with begin("Bake", attributes=PROCESS), begin("mix", attributes={**STEP, "audit.step.order": order}):
        pass

    assert [row.order for row in records.steps] == [1]


def test_odd_attributes_cost_no_record(tracer: trace.Tracer, records: AuditRecords) -> None:
    odd = {
        "audit.process.description": 7,
        "audit.outcome": "x" * 100,
        "audit.action": "y" * 100,
        "nan": float("nan"),
        "huge": 2**63 - 1,
        "nul": "a\x00b",
        "surrogate": "a\ud800b",
        "list": [1.5, float("inf")],
        "bytes": b"\xff",
    }

    with tracer.start_as_current_span("Bake\x00\ud800", attributes={**PROCESS, **odd}) as span:
        span.add_event("audit.registration", {"audit.registration.name": 7, "audit.registration.success": "yes"})
        span.add_event("audit.registration", {"n": float("nan")})
        span.add_event("audit.login", {"audit.action": 5, "audit.outcome": True})

    (row,) = records.processes
    assert "\x00" not in row.name
    assert row.extra_informations["nul"] == "a\\x00b"
    assert row.extra_informations["huge"] == str(2**63 - 1)
    assert [found.success for found in records.registrations] == [False, False]
    assert len(records.logins) == 1


def test_span_that_never_ends_is_no_leak(tracer: trace.Tracer, processor: AuditSpanProcessor) -> None:
    spans = [tracer.start_span("Bake", attributes=PROCESS) for _ in range(1000)]
    weak = [ref(span) for span in spans]

    del spans
    gc.collect()

    assert all(found() is None for found in weak)
    assert len(processor._live) == 0
    assert len(processor._dying) <= 64


def test_span_that_garbage_collection_ends_is_recorded(tracer: trace.Tracer, records: AuditRecords) -> None:
    def bake(box: list[Any]) -> Iterator[None]:
        with tracer.start_as_current_span("Bake", attributes=PROCESS):
            yield

    box: list[Any] = []
    box.append(bake(box))  # a cycle: reference counting alone does not free it
    next(box[0])

    del box
    gc.collect()

    assert [row.name for row in records.processes] == ["Bake"]


def test_garbage_collection_in_the_middle_of_a_pump_does_not_deadlock(
    tracer: trace.Tracer, records: AuditRecords
) -> None:
    ended: list[int] = []

    def bake() -> Iterator[None]:
        with tracer.start_as_current_span("Bake", attributes=PROCESS):
            yield

    def pump_while_collecting() -> None:
        with pipeline._pump_lock, pipeline._pumper.lock:
            baking = [bake()]
            next(baking[0])
            baking.append(baking)  # type: ignore[arg-type]
            del baking
            gc.collect()
        ended.append(1)

    thread = threading.Thread(target=pump_while_collecting, daemon=True)
    thread.start()
    thread.join(10)

    assert ended == [1]
    assert len(records.processes) == 1


def test_processor_never_raises_into_the_application(
    tracer: trace.Tracer, records: AuditRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(edges, "reraise", False)
    monkeypatch.setattr(pipeline, "span_started", fail)
    monkeypatch.setattr(pipeline, "span_ended", fail)
    before = edges.errors["AuditSpanProcessor.on_end"]

    with tracer.start_as_current_span("Bake", attributes=PROCESS) as span:
        assert span.is_recording()

    assert edges.errors["AuditSpanProcessor.on_end"] == before + 1


def test_bug_in_one_record_costs_that_record_alone_and_is_counted(
    tracer: trace.Tracer, records: AuditRecords, fresh_pipeline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edges, "reraise", False)
    with tracer.start_as_current_span("good", attributes=PROCESS):
        pass
    pipeline._queue.put(lambda: iter([1 / 0]))  # type: ignore[list-item,arg-type]
    with tracer.start_as_current_span("good too", attributes=PROCESS):
        pass

    assert {row.name for row in records.processes} == {"good", "good too"}
    assert pipeline.counts["lost"] == 1


def test_server_spans_are_requests_where_no_middleware_serves(records: AuditRecords) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AuditSpanProcessor(server_spans=True))
    tracer = provider.get_tracer("shop")
    attributes = {"http.method": "GET", "http.url": "http://shop/tea?token=hunter2&n=1", "http.status_code": 404}

    with (
        tracer.start_as_current_span("GET /tea", kind=SpanKind.SERVER, attributes=attributes),
        tracer.start_as_current_span("Bake", attributes=PROCESS),
        tracer.start_as_current_span("mix", attributes=STEP),
    ):
        trace.get_current_span().add_event(*registration())

    (request,) = records.requests
    (process,) = records.processes
    assert (request.method, request.url, request.status_code, request.outcome) == ("GET", "/tea", 404, "failure")
    assert "n=1" in (request.query_params or "")
    assert "hunter2" not in (request.query_params or "")
    assert (request.user, request.actor_name) == (None, "unknown")
    assert process.request_id == request.id
    assert records.steps[0].process_id == process.id
    assert records.registrations[0].step_id == records.steps[0].id


def test_client_and_consumer_spans_are_no_requests(records: AuditRecords) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AuditSpanProcessor(server_spans=True))

    for kind in (SpanKind.CLIENT, SpanKind.CONSUMER, SpanKind.INTERNAL):
        provider.get_tracer("shop").start_span("x", kind=kind).end()

    assert list(records) == []


def test_provider_gets_one_processor(fresh_provider: None) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AuditSpanProcessor())
    trace.set_tracer_provider(provider)

    with capture() as records:
        site_tracer()
        site_tracer()
        with provider.get_tracer("shop").start_as_current_span("Bake", attributes=PROCESS):
            pass

    assert len(records.processes) == 1
    found = provider._active_span_processor._span_processors
    assert [type(one) for one in found] == [AuditSpanProcessor]


def test_flush_of_the_provider_tells_whether_all_is_stored(tracer: trace.Tracer, fresh_pipeline: None) -> None:
    processor = AuditSpanProcessor()

    assert processor.force_flush(100) is True
    processor.shutdown()


def test_site_may_change_its_provider(fresh_provider: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with capture() as records:
        for name in ("first", "second"):
            monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(shutdown_on_exit=False))
            site_tracer()
            with trace.get_tracer("shop").start_as_current_span(name, attributes=PROCESS):
                pass

    assert [row.name for row in records.processes] == ["first", "second"]


def test_duration_is_that_of_the_monotonic_clock(
    tracer: trace.Tracer, records: AuditRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    span = tracer.start_span("Bake", attributes=PROCESS)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3600 * 10**9)

    span.end()

    (row,) = records.processes
    assert row.duration_ms is not None
    assert 0 < row.duration_ms < 5000


def test_times_that_the_site_gives_count(tracer: trace.Tracer, records: AuditRecords) -> None:
    start = time.time_ns() - 10**10

    tracer.start_span("Bake", attributes=PROCESS, start_time=start).end(start + 2 * 10**9)
    tracer.start_span("Cool", attributes=PROCESS, start_time=start).end()
    tracer.start_span("Plan", attributes=PROCESS).end(time.time_ns() + 10**10)

    durations = {row.name: row.duration_ms or 0 for row in records.processes}
    assert durations["Bake"] == 2000
    assert 10_000 <= durations["Cool"] < 15_000
    assert 9_000 < durations["Plan"] < 11_000


def test_event_on_an_ordinary_span_belongs_to_the_step_around_it(tracer: trace.Tracer, records: AuditRecords) -> None:
    begin = tracer.start_as_current_span
    with begin("Bake", attributes=PROCESS), begin("mix", attributes=STEP), begin("cache"), begin("SELECT"):
        trace.get_current_span().add_event(*registration("flour"))
    with begin("alone"):
        trace.get_current_span().add_event(*registration("nobody's"))

    steps = {row.name: row.step_id for row in records.registrations}
    assert steps == {"flour": records.steps[0].id, "nobody's": None}


def test_copies_of_our_own_events_are_no_records_of_their_own(tracer: trace.Tracer, records: AuditRecords) -> None:
    with tracer.start_as_current_span("SELECT") as span:
        span.add_event("audit.registration", {"audit.record.id": "01a20d99-58b0-76df-883d-d542a1097488"})
        span.add_event("cache.hit")

    assert list(records) == []
