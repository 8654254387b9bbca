"""The wrapping exporter masks secrets wherever they stand, and keeps the whole contract of the inner one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_audit_exporters import RedactingSpanExporter

JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0"
    ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """The site's exporter."""
    return InMemorySpanExporter()


def provider_of(exporter: SpanExporter, **options: Any) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource.create({"service.name": "shop"}), **options)
    provider.add_span_processor(SimpleSpanProcessor(RedactingSpanExporter(exporter)))
    return provider


def exported(exporter: InMemorySpanExporter, name: str = "GET", **attributes: Any) -> ReadableSpan:
    tracer = provider_of(exporter).get_tracer("shop")
    with tracer.start_as_current_span(name, attributes={key.replace("__", "."): v for key, v in attributes.items()}):
        pass
    (span,) = exporter.get_finished_spans()
    return span


@pytest.mark.parametrize("key", ["http.url", "http.target", "url.full", "url.query"])
def test_secrets_in_urls_are_masked_and_the_rest_stays(exporter: InMemorySpanExporter, key: str) -> None:
    query = "token=hunter2&colour=green"
    value = query if key == "url.query" else f"http://shop/tea?{query}"

    span = exported(exporter, **{key: value})

    found = str((span.attributes or {})[key])
    assert "hunter2" not in found
    assert "colour=green" in found
    assert found.startswith(("http://shop/tea?", "token="))


@pytest.mark.parametrize("key", ["password", "http.request.header.authorization", "shop.api_key"])
def test_values_of_secret_keys_are_masked(exporter: InMemorySpanExporter, key: str) -> None:
    span = exported(exporter, **{key: "hunter2"})

    assert "hunter2" not in span.to_json()


def test_tokens_are_masked_wherever_they_stand(exporter: InMemorySpanExporter) -> None:
    tracer = provider_of(exporter).get_tracer("shop")
    link = Link(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1)), {"password": "hunter2", "n": 1})
    with tracer.start_as_current_span(
        f"GET {JWT}", attributes={"a": f"x {JWT}", "l": ["y", JWT]}, links=[link]
    ) as span:
        span.add_event("exception", {"exception.message": f"Bearer {JWT}", "password": "hunter2"})
        span.set_status(Status(StatusCode.ERROR, f"refused {JWT}"))

    (found,) = exporter.get_finished_spans()
    text = f"{found.to_json()} {found.links[0].attributes}"
    assert JWT not in text
    assert "hunter2" not in text
    assert found.links[0].context == link.context
    assert (found.links[0].attributes or {})["n"] == 1


def test_nested_attributes_are_masked_too(exporter: InMemorySpanExporter) -> None:
    found = RedactingSpanExporter(exporter)
    nested = {"user": {"name": "ada", "password": "hunter2"}, "list": [{"token": "hunter2"}]}

    found.export([ReadableSpan("GET", attributes={"payload": nested, "url.full": JWT})])

    assert "hunter2" not in str(dict(exporter.get_finished_spans()[0].attributes or {}))
    assert "ada" in str(dict(exporter.get_finished_spans()[0].attributes or {}))


def test_everything_else_is_kept(exporter: InMemorySpanExporter) -> None:
    plain = InMemorySpanExporter()
    provider = provider_of(exporter)
    provider.add_span_processor(SimpleSpanProcessor(plain))
    tracer = provider.get_tracer("shop", "1.0")

    with (
        tracer.start_as_current_span("outer"),
        tracer.start_as_current_span(
            "GET item/<int:pk>/",
            kind=SpanKind.SERVER,
            attributes={"n": 1, "f": 1.5, "b": True, "s": "text", "ints": [1, 2], "texts": ["a", "b"]},
        ) as span,
    ):
        span.add_event("cache", {"hit": True}, timestamp=7)
        span.set_status(StatusCode.OK)

    for ours, theirs in zip(exporter.get_finished_spans(), plain.get_finished_spans(), strict=True):
        assert ours.to_json() == theirs.to_json()
        assert ours.instrumentation_scope == theirs.instrumentation_scope
        assert ours.resource == theirs.resource


def test_site_still_sees_its_own_values(exporter: InMemorySpanExporter) -> None:
    plain = InMemorySpanExporter()
    provider = provider_of(exporter)
    provider.add_span_processor(SimpleSpanProcessor(plain))

    with provider.get_tracer("shop").start_as_current_span("GET", attributes={"http.url": "http://x/?token=hunter2"}):
        pass

    assert "hunter2" in plain.get_finished_spans()[0].to_json()


def test_counts_of_what_the_limits_dropped_are_kept(exporter: InMemorySpanExporter) -> None:
    limits = SpanLimits(max_attributes=2, max_events=2, max_links=1)
    tracer = provider_of(exporter, span_limits=limits).get_tracer("shop")
    link = Link(SpanContext(1, 2, is_remote=True))
    with tracer.start_as_current_span("GET", attributes={"a": 1, "b": 2, "c": 3}, links=[link, link]) as span:
        for _ in range(5):
            span.add_event("x")

    (found,) = exporter.get_finished_spans()
    assert (found.dropped_attributes, found.dropped_events, found.dropped_links) == (1, 3, 1)


class Inner(SpanExporter):
    """Notes what it is asked."""

    def __init__(self, result: SpanExportResult, flushed: bool) -> None:
        self.result = result
        self.flushed = flushed
        self.asked: list[Any] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Note it."""
        self.asked.append(len(spans))
        return self.result

    def shutdown(self) -> None:
        """Note it."""
        self.asked.append("shutdown")

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Note it."""
        self.asked.append(timeout_millis)
        return self.flushed


@pytest.mark.parametrize("result", list(SpanExportResult))
@pytest.mark.parametrize("flushed", [True, False])
def test_answers_of_the_inner_exporter_are_passed_on(result: SpanExportResult, flushed: bool) -> None:
    inner = Inner(result, flushed)
    exporter = RedactingSpanExporter(inner)

    assert exporter.export([]) is result
    assert exporter.force_flush(7) is flushed
    exporter.shutdown()

    assert inner.asked == [0, 7, "shutdown"]


def test_span_without_anything_passes(exporter: InMemorySpanExporter) -> None:
    RedactingSpanExporter(exporter).export([ReadableSpan("bare")])

    assert exporter.get_finished_spans()[0].name == "bare"
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_names_and_keys_have_no_secrets_and_cost_no_batch(exporter: InMemorySpanExporter) -> None:
    tracer = provider_of(exporter).get_tracer("shop")
    with tracer.start_as_current_span("GET token=hunter2", attributes={"password=hunter2": "x"}) as span:
        span.add_event("token=hunter2")

    assert "hunter2" not in exporter.get_finished_spans()[0].to_json()


@pytest.mark.parametrize(("key", "value"), [("pin", 123456), ("number", 4929831175640281), ("passwords", [123456])])
def test_secret_numbers_are_masked(exporter: InMemorySpanExporter, key: str, value: Any) -> None:
    span = exported(exporter, **{key: value})

    assert "[redacted]" in str((span.attributes or {})[key])


def test_lone_surrogates_do_not_stop_the_batch(exporter: InMemorySpanExporter) -> None:
    span = exported(exporter, "GET \ud800", text="\udfff", texts=["\ud800"])

    span.name.encode()
    assert "\\udfff" in str((span.attributes or {})["text"])


def test_secrets_in_the_trace_state_are_masked_and_what_continues_a_process_is_left_out(
    exporter: InMemorySpanExporter,
) -> None:
    state = TraceState([("token", "hunter2"), ("vendor", "kept"), ("otel-audit", f"{'0' * 32}-{'1' * 32}")])
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    context = trace.set_span_in_context(trace.NonRecordingSpan(parent))

    provider_of(exporter).get_tracer("shop").start_span("GET", context).end()

    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert dict(span.context.trace_state) == {"token": "[redacted]", "vendor": "kept"}
    assert (span.context.trace_id, span.parent and span.parent.span_id) == (1, 2)


FINGERPRINT = "0123456789abcdef" * 2
KEY_OF_A_SESSION = "k2j3h4g5f6d7s8a9q0w1e2r3t4y5u6i7"


@pytest.mark.parametrize(
    ("value", "attributes", "sent"),
    [
        (FINGERPRINT, {"audit.record.id": "0192f0c1-2345-7abc-8def-0123456789ab"}, FINGERPRINT),
        (KEY_OF_A_SESSION, {"audit.record.id": "0192f0c1-2345-7abc-8def-0123456789ab"}, "[redacted]"),
        (FINGERPRINT, {}, "[redacted]"),
    ],
)
def test_fingerprint_of_a_session_is_sent_and_its_key_is_not(
    exporter: InMemorySpanExporter, value: str, attributes: dict[str, str], sent: str
) -> None:
    span = exported(exporter, **{"session.id": value, **attributes})

    assert (span.attributes or {})["session.id"] == sent


@pytest.mark.urls("tests.links_urls")
@pytest.mark.parametrize("key", ["url.path", "url.full", "http.url", "http.target"])
@pytest.mark.parametrize("reached", [{}, {"http.route": "invitation/<token>/"}], ids=["no view", "a view"])
def test_address_of_a_request_that_no_middleware_of_ours_has_seen_is_masked_by_its_route(
    exporter: InMemorySpanExporter, key: str, reached: dict[str, str]
) -> None:
    tracer = provider_of(exporter).get_tracer("shop")
    link = ("http://shop/invitation/hunter2/",)
    attributes = {
        key: "/invitation/hunter2?a=1",
        "http.request.header.referer": link,
        "http.response.header.location": link,
        **reached,
    }

    with tracer.start_as_current_span("GET", kind=SpanKind.SERVER, attributes=attributes):
        pass

    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})[key] == "/invitation/[redacted]?a=1"
    assert "hunter2" not in span.to_json()
