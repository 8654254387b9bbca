"""Spans as a real OpenTelemetry SDK makes them, and OTLP requests as its exporter encodes them."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from otel_audit.models import AuditEvent
from otel_audit_exporters import mapper
from otel_audit_exporters.envelope import parse, seal
from otel_audit_exporters.received_records import records_of

PROTOBUF, JSON = "application/x-protobuf", "application/json"
OBSERVED = "2026-11-24T12:00:00.000000+00:00"


class Service:
    """A service with the stock SDK; ``spans`` are those that have ended."""

    def __init__(self, name: str | None = "shop") -> None:
        resource = Resource({"service.name": name} if name is not None else {})
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = provider.get_tracer("shop")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def request(self) -> ExportTraceServiceRequest:
        """Return the request with all spans so far."""
        return encode_spans(self.spans)

    @contextmanager
    def process(self, name: str = "Create product", **attributes: Any) -> Iterator[Any]:
        """Run a process."""
        with self.tracer.start_as_current_span(name, attributes={"audit.kind": "process", **attributes}) as span:
            yield span

    @contextmanager
    def step(self, name: str = "Validate", **attributes: Any) -> Iterator[Any]:
        """Run a step."""
        with self.tracer.start_as_current_span(name, attributes={"audit.kind": "step", **attributes}) as span:
            yield span


def register(span: Any, success: bool = True, **attributes: Any) -> None:
    """Add a registration."""
    span.add_event("audit.registration", {"audit.registration.success": success, **attributes})


def rows_of(request: ExportTraceServiceRequest, service: str = "shop") -> dict[str, list[AuditEvent]]:
    """Return the rows that a request becomes, by the name of their model."""
    found: dict[str, list[AuditEvent]] = {}
    for number, record in enumerate(records_of(request, service)[0], 1):
        for row in mapper.rows(parse(seal(record, "stream", number, OBSERVED))):
            found.setdefault(type(row).__name__.removesuffix("AuditEvent").lower(), []).append(row)
    return found


def one_span(**changes: Any) -> ExportTraceServiceRequest:
    """Return a request with one process span, changed as told."""
    service = Service()
    with service.process():
        pass
    request = service.request()
    span: Span = request.resource_spans[0].scope_spans[0].spans[0]
    for name, value in changes.items():
        setattr(span, name, value)
    return request


def spans_in(request: ExportTraceServiceRequest) -> Iterable[Span]:
    """Return the spans of a request."""
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            yield from scope_spans.spans


def as_json(request: ExportTraceServiceRequest) -> bytes:
    """Return a request in OTLP's JSON, as the SDK for JavaScript sends it."""
    return json.dumps(_with_hex_ids(MessageToDict(request, use_integers_for_enums=True))).encode()


def encoded(request: ExportTraceServiceRequest, content_type: str) -> bytes:
    """Return a request in one of the encodings."""
    return request.SerializeToString() if content_type == PROTOBUF else as_json(request)


def compressed(body: bytes) -> tuple[bytes, Mapping[str, str]]:
    """Return a body as gzip, and the header for it."""
    return gzip.compress(body), {"Content-Encoding": "gzip"}


def _with_hex_ids(found: Any) -> Any:
    if isinstance(found, list):
        return [_with_hex_ids(item) for item in found]
    if not isinstance(found, dict):
        return found
    ids = ("traceId", "spanId", "parentSpanId")
    return {key: base64.b64decode(value).hex() if key in ids else _with_hex_ids(value) for key, value in found.items()}
