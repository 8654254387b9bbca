"""A small OTLP collector on this machine, over HTTP and gRPC, that keeps what it is sent."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
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

from tests.e2e.authority import Authority

__all__ = ["TAKEN", "Answer", "Collector", "grpc_collector", "http_collector"]


@dataclass(frozen=True)
class Answer:
    """What a collector says: over HTTP a status with body and headers, over gRPC a code with details and metadata."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    code: grpc.StatusCode | None = None
    metadata: tuple[tuple[str, bytes], ...] = ()
    #: Whether the spans of the request are kept.
    keeps: bool = True


TAKEN = Answer()


class Collector:
    """What arrived, in the order of arrival; ``endpoint`` is its full URL, ``base_url`` the one without a path.

    ``answer`` says what becomes of a request; each is counted in ``asked``.
    """

    def __init__(self, base_url: str, path: str = "") -> None:
        self.base_url = base_url
        self.endpoint = base_url + path
        self.answer: Callable[[ExportTraceServiceRequest], Answer] = lambda _request: TAKEN
        self.asked = 0
        #: Of the last request, by lower-case names.
        self.headers: Mapping[str, str] = {}
        self._requests: list[ExportTraceServiceRequest] = []
        self._lock = threading.Lock()

    def take(self, request: ExportTraceServiceRequest) -> Answer:
        """Keep one export, if it is not refused."""
        with self._lock:
            self.asked += 1
        answer = self.answer(request)
        if answer.keeps:
            with self._lock:
                self._requests.append(request)
        return answer

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
def http_collector(authority: Authority | None = None) -> Iterator[Collector]:
    """Run a collector that takes OTLP over HTTP; with an authority by TLS, from those that show a certificate of it."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        scheme = "http"
        if authority is not None:
            scheme, own = "https", authority.issue("collector")
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.certificate)
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(own.certificate, own.key)
            # The handshake is for the thread of the connection, as it may fail.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.collector = Collector(f"{scheme}://127.0.0.1:{server.server_port}", "/v1/traces")  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.collector  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def grpc_collector(authority: Authority | None = None) -> Iterator[Collector]:
    """Run a collector that takes OTLP over gRPC; with an authority as `http_collector` does."""
    server = grpc.server(ThreadPoolExecutor(2))
    if authority is None:
        collector = Collector(f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    else:
        own = authority.issue("collector")
        pair = (own.key.read_bytes(), own.certificate.read_bytes())
        credentials = grpc.ssl_server_credentials([pair], authority.certificate.read_bytes(), require_client_auth=True)
        collector = Collector(f"https://127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}")
    add_TraceServiceServicer_to_server(_Servicer(collector), server)
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a handshake that failed: the test asks the client."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.server.collector.headers = {name.lower(): value for name, value in self.headers.items()}  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer = Answer(404)
        if self.path == "/v1/traces":
            answer = self.server.collector.take(ExportTraceServiceRequest.FromString(body))  # type: ignore[attr-defined]
        self.send_response(answer.status)
        said = {"Content-Type": "application/x-protobuf", "Content-Length": str(len(answer.body)), **answer.headers}
        for name, value in said.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class _Servicer(TraceServiceServicer):  # type: ignore[misc]  # generated without types
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        self._collector.headers = dict(context.invocation_metadata())
        answer = self._collector.take(request)
        if answer.code is not None:
            context.set_trailing_metadata(answer.metadata)
            context.abort(answer.code, answer.body.decode())
        return ExportTraceServiceResponse.FromString(answer.body)
