"""Forwarding: where to, by which protocol, redacted, once, and never in the way of the audit trail."""

from __future__ import annotations

import http.server
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

from otel_audit import edges, process
from otel_audit.exceptions import ConfigurationError
from otel_audit.provider import site_tracer
from otel_audit.testing import capture
from otel_audit_exporters import RedactingSpanExporter
from otel_audit_exporters.otlp import collector_exporter, forwarding_processors
from otel_audit_exporters.otlp_bounds import BoundedRequests
from tests.exporters.spooling import spooled as _spooled

HERE = "http://127.0.0.1:4318/v1/traces"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is configured but what a test says."""
    for name in ("", "_TRACES"):
        for key in ("ENDPOINT", "PROTOCOL", "HEADERS"):
            monkeypatch.delenv(f"OTEL_EXPORTER_OTLP{name}_{key}", raising=False)


@pytest.fixture
def otlp(settings: Any) -> Any:
    """Return a function that sets ``OTEL_AUDIT["OTLP"]``."""

    def configure(**options: Any) -> None:
        settings.OTEL_AUDIT = {"DATABASE": "audit", "OTLP": options}

    return configure


@pytest.fixture
def collector() -> Iterator[Any]:
    """A collector that takes OTLP by HTTP and remembers it."""
    got: list[tuple[dict[str, str], ExportTraceServiceRequest]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            got.append((dict(self.headers), ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.got = got  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{server.server_port}/v1/traces"  # type: ignore[attr-defined]
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def inner(exporter: Any) -> Any:
    """Return what a redacting exporter wraps."""
    assert isinstance(exporter, RedactingSpanExporter)
    assert isinstance(exporter.inner, BoundedRequests)
    found = exporter.inner.inner
    exporter.shutdown()
    return found


def test_nothing_is_forwarded_when_nothing_is_configured() -> None:
    assert collector_exporter() is None
    assert list(forwarding_processors(TracerProvider(shutdown_on_exit=False))) == []


def test_http_is_the_default_protocol(otlp: Any) -> None:
    otlp(endpoint=HERE, headers={"authorization": "Bearer x"}, timeout=3)

    exporter = inner(collector_exporter())

    assert type(exporter) is HttpExporter
    assert exporter._endpoint == HERE


@pytest.mark.parametrize(
    ("variable", "value", "endpoint"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318", HERE),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", HERE, HERE),
    ],
)
def test_standard_variables_count_too(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, endpoint: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert inner(collector_exporter())._endpoint == endpoint


def test_grpc_is_chosen_by_the_setting_or_the_variable(otlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    otlp(endpoint="http://127.0.0.1:4317", protocol="grpc", headers={"api-key": "x"})
    by_setting = inner(collector_exporter())

    otlp(endpoint="http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    by_variable = inner(collector_exporter())

    assert type(by_setting) is type(by_variable) is GrpcExporter
    assert by_setting._insecure


def test_unknown_protocol_of_the_environment_is_named(otlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    otlp(endpoint=HERE)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")

    with pytest.raises(ConfigurationError, match="'http/json'; write 'http/protobuf' or 'grpc'"):
        collector_exporter()


@pytest.mark.parametrize(
    ("protocol", "module", "extra"),
    [
        ("http/protobuf", "opentelemetry.exporter.otlp.proto.http.trace_exporter", "otel-audit[otlp]"),
        ("grpc", "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", "otel-audit[otlp-grpc]"),
    ],
)
def test_missing_package_is_named(
    otlp: Any, monkeypatch: pytest.MonkeyPatch, protocol: str, module: str, extra: str
) -> None:
    otlp(endpoint=HERE, protocol=protocol)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ConfigurationError) as caught:
        collector_exporter()

    assert f"pip install '{extra}'" in str(caught.value)


@pytest.mark.parametrize("wrapped", [False, True])
def test_variables_do_not_forward_twice_what_the_site_forwards_itself(
    monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = HttpExporter()
    provider.add_span_processor(BatchSpanProcessor(RedactingSpanExporter(exporter) if wrapped else exporter))

    assert list(forwarding_processors(provider)) == []
    provider.shutdown()


def test_other_exporters_of_the_site_stand_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))

    (processor,) = forwarding_processors(provider)

    processor.shutdown()


def test_setting_forwards_although_the_site_does(otlp: Any) -> None:
    otlp(endpoint=HERE)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(HttpExporter()))

    (processor,) = forwarding_processors(provider)

    processor.shutdown()
    provider.shutdown()


def test_spans_reach_the_collector_redacted_and_without_what_stands_beside_them(
    otlp: Any, collector: Any, client: Any, fresh_provider: None
) -> None:
    otlp(endpoint=collector.url, headers={"authorization": "Bearer x"})

    with capture() as records:
        client.get("/admin/login/?next=/admin/&token=hunter2", HTTP_REFERER="http://x/?token=hunter2")
        with trace.get_tracer("shop").start_as_current_span("Bake", attributes={"password": "hunter2"}):
            pass
    trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]

    ((headers, request),) = collector.got
    spans = [span for found in request.resource_spans for scope in found.scope_spans for span in scope.spans]
    assert headers["authorization"] == "Bearer x"
    assert {span.name for span in spans} == {"GET admin/login/", "Bake"}
    assert "hunter2" not in str(request)
    assert "csrfmiddlewaretoken" not in str(request)
    server = next(span for span in spans if span.name == "GET admin/login/")
    assert server.trace_id.hex() == records.requests[0].trace_id
    assert server.span_id.hex() == records.requests[0].span_id


def test_collector_that_is_away_costs_no_response_and_no_record(
    otlp: Any, client: Any, fresh_provider: None, caplog: pytest.LogCaptureFixture
) -> None:
    otlp(endpoint="http://127.0.0.1:1/v1/traces", timeout=1)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    with capture() as records:
        response = client.get("/admin/login/")

    assert response.status_code == 200
    assert len(records.requests) == 1


def test_forwarding_that_cannot_be_set_up_leaves_the_audit_trail_and_the_sites_spans_alone(
    otlp: Any, client: Any, fresh_provider: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(edges, "reraise", False)
    monkeypatch.setattr(edges, "_last_logged", {})
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    otlp(endpoint=HERE)

    with capture() as records:
        client.get("/admin/login/")
        client.get("/admin/login/")
        tracer = site_tracer()

    assert len(records.requests) == 2
    assert tracer.start_span("x").is_recording()
    assert caplog.text.count("pip install 'otel-audit[otlp]'") == 1
    assert "Traceback" not in caplog.text
    assert edges.errors["provider.forwarding"] == 1


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("trace", {"audit.record.id", "shop.size"}),
        ("audit", {"audit.record.id", "shop.size", "audit.kind", "audit.process.description", "audit.registration"}),
    ],
)
def test_the_level_says_how_much_of_the_audit_trail_a_span_tells(
    otlp: Any, collector: Any, fresh_provider: None, level: str, told: set[str]
) -> None:
    otlp(endpoint=collector.url, level=level)

    with capture():
        with process("Bake", "By hand") as running, running.step("Knead") as step:
            running.span.set_attribute("shop.size", 3)
            step.register(True, "kneaded")
        with trace.get_tracer("shop").start_as_current_span("Oven", attributes={"shop.heat": 200}):
            pass
    trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]

    spans = _spans(collector)
    found = {attribute.key for span in spans.values() for attribute in span.attributes}
    found |= {event.name for span in spans.values() for event in span.events}
    assert spans.keys() == {"Bake", "Knead", "Oven"}
    assert told <= found
    assert {key for key in found if key.startswith("audit.")} - told <= (
        set() if level == "trace" else {"audit.step.expected_registrations", "audit.step.order"}
    )
    assert {attribute.key for attribute in spans["Oven"].attributes} == {"shop.heat"}


def test_where_the_spool_forwards_the_trail_ordinary_spans_alone_go_beside_it(
    otlp: Any, collector: Any, client: Any, fresh_provider: None, settings: Any, tmp_path: Path, fresh_pipeline: None
) -> None:
    otlp(endpoint=collector.url, durable=True)
    settings.OTEL_AUDIT = {
        **settings.OTEL_AUDIT,
        "DELIVERY": "spool",
        "DRAIN": "external",
        "SPOOL_DIR": tmp_path / "spool",
    }

    client.get("/admin/login/")
    with process("Bake"), trace.get_tracer("shop").start_as_current_span("Oven"):
        pass
    with trace.get_tracer("shop").start_as_current_span("Serve", kind=trace.SpanKind.SERVER):
        pass
    for processor in trace.get_tracer_provider()._active_span_processor._span_processors:  # type: ignore[attr-defined]
        if isinstance(processor, BatchSpanProcessor):
            processor.force_flush()  # ours alone: the provider's would also send what is in the spool

    spooled = {envelope["span"]["name"] for envelope in _spooled(tmp_path / "spool")}
    assert spooled == {"GET admin/login/", "Bake"}
    assert _spans(collector).keys() == {"Oven", "Serve"}


def _spans(collector: Any) -> dict[str, Any]:
    return {
        span.name: span
        for _, request in collector.got
        for found in request.resource_spans
        for scope in found.scope_spans
        for span in scope.spans
    }
