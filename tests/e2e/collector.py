"""A small OTLP collector on this machine, over HTTP and gRPC, that keeps what it is sent."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

__all__ = ["Collector", "grpc_collector", "http_collector"]


class Collector:
    """What arrived, in the order of arrival; ``endpoint`` is its full URL, ``base_url`` the one without a path."""

    def __init__(self, base_url: str, path: str = "") -> None:
        self.base_url = base_url
        self.endpoint = base_url + path
        self._requests: list[ExportTraceServiceRequest] = []
        self._lock = threading.Lock()

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep one export."""
        with self._lock:
            self._requests.append(request)

    def spans(self) -> list[Any]:
        """Return every span that arrived."""
        with self._lock:
            return [
                span
                for request in self._requests
                for resource_spans in request.resource_spans
                for scope_spans in resource_spans.scope_spans
                for span in scope_spans.spans
            ]

    def ids(self) -> list[tuple[str, str]]:
        """Return trace id and span id of every span that arrived, as they stand in the audit trail."""
        return [(span.trace_id.hex(), span.span_id.hex()) for span in self.spans()]

    def text(self) -> str:
        """Return everything that arrived as text, to search it."""
        with self._lock:
            return "\n".join(MessageToJson(request) for request in self._requests)

    def raw(self) -> bytes:
        """Return the bytes of everything that arrived."""
        with self._lock:
            return b"\n".join(request.SerializeToString() for request in self._requests)


@contextmanager
def http_collector() -> Iterator[Collector]:
    """Run a collector that takes OTLP over HTTP."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.collector = Collector(f"http://127.0.0.1:{server.server_port}", "/v1/traces")  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.collector  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def grpc_collector() -> Iterator[Collector]:
    """Run a collector that takes OTLP over gRPC."""
    server = grpc.server(ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    collector = Collector(f"http://127.0.0.1:{port}")
    add_TraceServiceServicer_to_server(_Servicer(collector), server)
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        found = self.path == "/v1/traces"
        if found:
            self.server.collector.take(ExportTraceServiceRequest.FromString(body))  # type: ignore[attr-defined]
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class _Servicer(TraceServiceServicer):  # type: ignore[misc]  # generated without types
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        self._collector.take(request)
        return ExportTraceServiceResponse()
