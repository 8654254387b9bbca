"""Best-effort forwarding: no request is larger than a collector takes, and a span that is says what it has lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_audit_exporters.otlp_bounds import MAX_REQUEST_BYTES, BoundedRequests

LIMIT = 20_000


class Requests(SpanExporter):
    """Keeps the spans of each request; those that hold a span named ``refused`` fail."""

    def __init__(self) -> None:
        self.got: list[Sequence[ReadableSpan]] = []
        self.shut = self.flushed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.got.append(spans)
        refused = any(span.name == "refused" for span in spans)
        return SpanExportResult.FAILURE if refused else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.shut = True

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.flushed = True
        return True


def make_span(name: str = "work", events: Sequence[dict[str, Any]] = (), **attributes: Any) -> Any:
    """Return a span that has ended."""
    span = TracerProvider(shutdown_on_exit=False).get_tracer("shop").start_span(name, attributes=attributes)
    for event in events:
        span.add_event("exception", event)
    span.end()
    return span


def test_a_batch_is_split_into_requests_that_fit_in_its_order() -> None:
    inner = Requests()
    spans = [make_span(str(number), text="é" * 1500) for number in range(40)]

    result = BoundedRequests(inner, LIMIT).export(spans)

    assert result is SpanExportResult.SUCCESS
    assert [span for request in inner.got for span in request] == spans
    assert 5 < len(inner.got) < 12
    assert all(encode_spans(request).ByteSize() <= LIMIT * 1.2 for request in inner.got)


def test_a_batch_that_fits_goes_out_as_it_is() -> None:
    inner = Requests()
    spans = [make_span("small") for _ in range(30)]

    BoundedRequests(inner, LIMIT).export(spans)

    assert inner.got == [spans]


@pytest.mark.parametrize(
    ("span", "lost"),
    [
        (make_span(big="x" * 50_000, small="tea"), ["big"]),
        (make_span(big=["x" * 50_000] * 3, small="tea"), ["big"]),
        (make_span(events=[{"exception.stacktrace": "é" * 30_000}], small="tea"), ["exception.stacktrace"]),
    ],
)
def test_a_span_that_is_too_large_alone_is_cut_and_says_so(span: Any, lost: list[str]) -> None:
    inner = Requests()

    BoundedRequests(inner, LIMIT).export([make_span("before"), span, make_span("after")])

    ((_, sent, _),) = inner.got
    attributes = sent.attributes or {}
    assert (attributes["small"], list(attributes["audit.changed"])) == ("tea", lost)
    assert sent.get_span_context() == span.get_span_context()
    assert encode_spans([sent]).ByteSize() <= LIMIT * 1.2


def test_events_that_do_not_fit_are_left_out_and_counted() -> None:
    inner = Requests()
    span = make_span(events=[{f"key {number}": "x" * 200 for number in range(50)}] * 100, small="tea")

    BoundedRequests(inner, LIMIT).export([span])

    ((sent,),) = inner.got
    assert (len(sent.events), sent.dropped_events, (sent.attributes or {})["small"]) == (0, 100, "tea")


def test_a_request_that_fails_costs_no_other() -> None:
    inner = Requests()
    spans = [make_span("refused", text="x" * 15_000), make_span("next", text="x" * 15_000)]

    result = BoundedRequests(inner, LIMIT).export(spans)

    assert result is SpanExportResult.FAILURE
    assert [request[0].name for request in inner.got] == ["refused", "next"]


def test_it_is_shut_down_and_flushed_with_what_it_wraps() -> None:
    inner = Requests()
    exporter = BoundedRequests(inner)

    assert exporter.force_flush()
    exporter.shutdown()

    assert (inner.flushed, inner.shut) == (True, True)
    assert MAX_REQUEST_BYTES < 4 * 1024 * 1024
