"""The span that only we shall see is like the SDK's, and gives way to it as soon as somebody else looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otel_audit.lean_span import LeanSpan, start_lean_span
from otel_audit.testing import AuditRecords
from otel_audit_exporters import AuditSampler
from otel_audit_exporters.trace_level import TraceLevelExporter

from . import views
from .conftest import URLS
from .doors import Door

pytestmark = pytest.mark.urls(URLS)

REMOTE = SpanContext(1 << 100 | 7, 1 << 60, True, TraceFlags(1), TraceState([("vendor", "x")]))
UNSAMPLED = SpanContext(1 << 100 | 7, 1 << 60, True, TraceFlags(0))
ATTRIBUTES = {"http.request.method": "GET", "url.path": "/"}


class PickySampler(ParentBased):
    """Drops what OpenTelemetry's default samples, and describes itself as that does."""

    def __init__(self) -> None:
        super().__init__(ALWAYS_ON)

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        """Drop it."""
        return SamplingResult(Decision.DROP)


def both(sampler: Sampler, parent: SpanContext | None) -> tuple[Span, Any]:
    """Start the SDK's span and ours under the same circumstances."""
    provider = TracerProvider(sampler=AuditSampler(sampler), shutdown_on_exit=False)
    context = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent))
    theirs = provider.get_tracer("test").start_span("GET", context, SpanKind.SERVER, ATTRIBUTES)
    return theirs, start_lean_span(provider, "GET", context, dict(ATTRIBUTES))


def described(span: Any) -> dict[str, Any]:
    """What a living or ended span says, but for its own ids and times."""
    return {
        "name": span.name,
        "kind": span.kind,
        "parent": span.parent,
        "status": (span.status.status_code, span.status.description),
        "attributes": dict(span.attributes),
        "events": [(event.name, dict(event.attributes or {})) for event in span.events],
        "recording": getattr(span, "is_recording", bool)(),
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "links": tuple(span.links),
        "service": span.resource.attributes["service.name"],
    }


@pytest.mark.parametrize("parent", [None, REMOTE, UNSAMPLED], ids=["root", "remote", "unsampled"])
@pytest.mark.parametrize(
    "sampler",
    [DEFAULT_ON, ParentBased(ALWAYS_ON), ALWAYS_ON, ALWAYS_OFF, TraceIdRatioBased(1.0), PickySampler()],
    ids=lambda one: type(one).__name__,
)
def test_it_has_the_ids_and_the_flags_of_the_sdks(sampler: Sampler, parent: SpanContext | None) -> None:
    theirs, ours = both(sampler, parent)

    expected, found = theirs.get_span_context(), ours.get_span_context()
    assert found.is_valid
    assert found.trace_flags & TraceFlags.SAMPLED == expected.trace_flags & TraceFlags.SAMPLED
    assert found.trace_state == expected.trace_state
    assert (found.trace_id == expected.trace_id) is (parent is not None)
    assert found.span_id not in (expected.span_id, 0)
    assert described(ours) == described(theirs)


def _end(span: Span) -> None:
    span.end()
    span.end()
    span.update_name("late")
    span.set_attribute("late", 1)
    span.set_status(StatusCode.ERROR)
    span.add_event("late")


DEEDS: list[Callable[[Span], object]] = [
    lambda span: span.update_name("GET /"),
    lambda span: span.set_attribute("a", 1),
    lambda span: span.set_attributes({"url.path": "/x", "b": True}),
    lambda span: span.add_event("audit.login", {"audit.action": "LOGIN"}),
    lambda span: span.add_event("bare", timestamp=5),
    lambda span: span.set_status(StatusCode.ERROR, "why"),
    lambda span: (span.set_status(Status(StatusCode.OK)), span.set_status(Status(StatusCode.ERROR))),
    lambda span: (span.set_status(StatusCode.ERROR), span.set_status(StatusCode.UNSET)),
    _end,
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("deed", DEEDS)
def test_it_does_what_the_sdks_does(deed: Callable[[Span], object]) -> None:
    theirs, ours = both(ALWAYS_ON, None)

    deed(theirs)
    deed(ours)

    assert described(ours) == described(theirs)
    ours.record_exception(ValueError("the guard notes it itself"))


def test_a_flood_drops_what_is_beyond_the_limits_but_no_record() -> None:
    theirs, ours = both(ALWAYS_ON, None)

    for span in (theirs, ours):
        for number in range(300):
            span.set_attribute(f"flood.{number}", number)
            span.add_event("flood", {"number": number})
        span.set_attribute("flood.299", "again")
    ours.add_event("audit.login", {"audit.action": "LOGIN"})

    assert dict(ours.attributes) == dict(theirs.attributes)  # type: ignore[attr-defined]
    assert ours.dropped_attributes == theirs.dropped_attributes > 0  # type: ignore[attr-defined]
    assert ours.dropped_events == theirs.dropped_events > 0  # type: ignore[attr-defined]
    assert ours.events[-1].name == "audit.login"


def test_times_are_those_of_its_start_and_end() -> None:
    _, ours = both(ALWAYS_ON, None)

    ours.end(ours.start_time + 5)

    assert ours.end_time - ours.start_time == 5


def test_without_recording_there_is_none() -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)

    assert start_lean_span(provider, "GET", None, {}) is None


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Span]]:
    """The span that is current while the view runs."""
    seen: list[Span] = []

    def hello(request: Any) -> Any:
        seen.append(trace.get_current_span())
        with trace.get_tracer("site").start_as_current_span("inside") as inside:
            seen.append(inside)
        return views.hello(request)

    from django.urls import path

    from . import urls

    monkeypatch.setattr(urls, "urlpatterns", [path("seen/", hello), *urls.urlpatterns])
    from django.urls import clear_url_caches

    clear_url_caches()
    yield seen
    clear_url_caches()


class Watch(SpanProcessor):
    """Somebody else who gets the spans."""

    def __init__(self) -> None:
        self.ended: list[Any] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep ``span``."""
        self.ended.append(span)


def test_a_view_finds_the_parent_of_its_spans(door: Door, current: list[Any], records: AuditRecords) -> None:
    door.get("/seen/")

    (row,) = records.requests
    span, inside = current
    assert isinstance(span, LeanSpan)
    assert inside.parent == span.get_span_context()
    assert (row.trace_id, row.span_id) == (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}")
    assert span.name == "GET seen/"
    assert span.attributes["http.response.status_code"] == 200
    assert not span.is_recording()


def test_it_gives_way_as_soon_as_somebody_else_gets_the_spans(
    door: Door, current: list[Any], records: AuditRecords
) -> None:
    door.get("/seen/")
    trace.get_tracer_provider().add_span_processor(Watch())  # type: ignore[attr-defined]  # the SDK's
    door.get("/seen/")

    before, _, after, _ = current
    assert isinstance(before, LeanSpan)
    assert not isinstance(after, LeanSpan)
    assert [row.status_code for row in records.requests] == [200, 200]


@pytest.mark.parametrize("wants_requests", [True, False])
def test_it_stays_for_who_wants_ended_spans_alone_or_none(
    door: Door, current: list[Any], records: AuditRecords, monkeypatch: pytest.MonkeyPatch, wants_requests: bool
) -> None:
    monkeypatch.setattr(Watch, "wants_requests", wants_requests, raising=False)
    watch = Watch()
    door.get("/seen/")
    trace.get_tracer_provider().add_span_processor(watch)  # type: ignore[attr-defined]  # the SDK's

    door.get("/seen/")

    span, inside = current[2:]
    assert isinstance(span, LeanSpan)
    assert [ended.name for ended in watch.ended] == [inside.name, *(["GET seen/"] if wants_requests else [])]
    assert ("code.function.name" in span.attributes) is wants_requests  # as it is on the SDK's
    assert [row.status_code for row in records.requests] == [200, 200]


def test_an_exporter_reads_it_as_it_reads_the_sdks(records: AuditRecords) -> None:
    theirs, ours = both(ParentBased(ALWAYS_ON), REMOTE)
    inner = InMemorySpanExporter()
    for span in (theirs, ours):
        span.set_attribute("http.route", "/")
        span.add_event("exception", {"exception.message": "told"})
        span.set_status(StatusCode.ERROR)
        span.end()

        TraceLevelExporter(inner).export([span])  # type: ignore[list-item]  # the SDK's span is one

    expected, found = map(described, inner.get_finished_spans())
    assert found == expected
    assert found["attributes"]["http.route"] == "/"
