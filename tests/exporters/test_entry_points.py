"""What OpenTelemetry's own configuration finds under the name ``otel_audit``."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import SpanKind

from otel_audit.provider import site_tracer
from otel_audit.testing import capture
from otel_audit_exporters import AuditSpanProcessor
from otel_audit_exporters.entry_points import DatabaseSpanExporter, audit_sampler, post_instrument

pytestmark = pytest.mark.usefixtures("fresh_provider")


def processors() -> list[type]:
    """Return the kinds of processors on the global provider."""
    provider = trace.get_tracer_provider()
    return [type(one) for one in provider._active_span_processor._span_processors]  # type: ignore[attr-defined]


def test_exporter_needs_no_argument() -> None:
    assert isinstance(DatabaseSpanExporter(), SpanExporter)


@pytest.mark.parametrize("exporters", ["otel_audit", "otel_audit,otlp", "otlp, otel_audit"])
def test_exporter_of_the_environment_brings_our_processor(monkeypatch: pytest.MonkeyPatch, exporters: str) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", exporters)
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))

    post_instrument()

    assert processors() == [AuditSpanProcessor]


@pytest.mark.parametrize("exporters", ["", "otlp", "otel_audit_but_not_ours", "none"])
def test_other_exporters_bring_nothing(monkeypatch: pytest.MonkeyPatch, exporters: str) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", exporters)
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))

    post_instrument()

    assert processors() == []


def test_provider_that_is_not_the_sdks_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otel_audit")

    post_instrument()

    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_requests_are_recorded_once_where_the_middleware_stands_too(
    monkeypatch: pytest.MonkeyPatch, client: object
) -> None:
    from django.test import Client

    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otel_audit")
    trace.set_tracer_provider(TracerProvider(sampler=audit_sampler("0"), shutdown_on_exit=False))
    post_instrument()

    with capture() as records:
        Client().get("/admin/login/")
        with trace.get_tracer("other").start_as_current_span("POST /hook", kind=SpanKind.SERVER):
            pass
        site_tracer()

    assert [row.url for row in records.requests] == ["/admin/login/", ""]
    assert processors() == [AuditSpanProcessor]
