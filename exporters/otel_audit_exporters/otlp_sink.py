"""Sends spooled records to an OTLP collector, until it has confirmed them: the sink of durable forwarding.

OpenTelemetry's own exporters give up after seconds and take a partial success for a success. So they only make the
connection here, as settings and standard variables say; sending, and reading the answer, are done here.

What an answer means follows the OTLP specification
(https://opentelemetry.io/docs/specs/otlp/#failures), with one difference: a request that the collector will not have
for what is in it is halved, until the span alone is found that it refuses, which is cut where it may be too large; what
it refuses for another reason, as a wrong token or path, is no record's fault, and waits.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from otel_audit.exceptions import ConfigurationError, OTelAuditError
from otel_audit.forwarding import without_credentials
from otel_audit_exporters.envelope import parse
from otel_audit_exporters.otlp import GRPC, bare_exporter, forwarding_level, resource_attributes
from otel_audit_exporters.writer import POISON, Outcome, Rejection, RetryLaterError, without_spans

__all__ = ["REFUSED", "CollectorAwayError", "CollectorSink", "RefusedError"]

#: Why a span is in quarantine that the collector will never take.
REFUSED: Final = "refused"
#: Nothing that a collector says makes us wait longer.
MAX_WAIT_S: Final = 600.0

_CONTENT_STATUSES: Final = frozenset({400, 413, 422})
_CONTENT_CODES: Final = frozenset({"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"})
_SAID: Final = 300
#: A span of more bytes may be refused for its size, whatever the collector says: a Collector says 400.
_LARGE: Final = 65_536


class CollectorAwayError(RetryLaterError):
    """The collector takes nothing now, or nothing from us; the spans wait."""

    reason = "collector"

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = min(after_s, MAX_WAIT_S)


class RefusedError(OTelAuditError):
    """The collector will not have a request for what is in it; ``too_large``: for how much that is."""

    def __init__(self, message: str, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


class _Connection(Protocol):
    def send(self, request: Any) -> None:
        """Send an ``ExportTraceServiceRequest``; all of it is confirmed when this returns.

        Raises:
            RefusedError: it will not have a span, as it is.
            CollectorAwayError: whatever else kept it from confirming.
        """

    def close(self) -> None:
        """Let go of the connection."""


class CollectorSink:
    """Takes the JSON texts of records, as a `Drainer` hands them over. Used by one thread at a time."""

    def __init__(self) -> None:
        self._connection: _Connection | None = None
        self._speaks_otlp = False
        self._level = forwarding_level()
        resource_attributes()

    def __call__(self, payloads: Sequence[bytes]) -> Outcome:
        """Send ``payloads``; what is not rejected is confirmed when this returns.

        Raises:
            RetryLaterError: the collector is away; some may be there, and come again with the same ids.
        """
        try:
            return self._deliver(payloads)
        except CollectorAwayError:
            self.close()
            raise
        except ConfigurationError as error:
            raise CollectorAwayError(str(error)) from error

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _deliver(self, payloads: Sequence[bytes]) -> Outcome:
        if self._connection is None:
            self._connection = _connect()  # looks for the packages first
        from otel_audit_exporters.otlp_spans import as_span

        self._speaks_otlp = False
        outcome = Outcome()
        spans: list[tuple[int, str, Any]] = []
        for index, payload in enumerate(payloads):
            try:
                envelope = parse(payload)
                span = as_span(envelope, self._level)
            except Exception as error:  # reading is pure: whatever goes wrong is this record's
                outcome.rejections.append(Rejection(index, POISON, f"{type(error).__name__}: {error}"))
                continue
            if span is not None:
                spans.append((index, str(envelope.get("service", "")), span))
        with without_spans():
            self._send(self._connection, spans, outcome)
        outcome.stored = len(payloads) - len(outcome.rejections)
        return outcome

    def _send(self, connection: _Connection, spans: list[tuple[int, str, Any]], outcome: Outcome) -> None:
        """Send a batch; halve it when the collector refuses it, so that a span stands alone that it will not have."""
        from otel_audit_exporters.otlp_spans import as_request

        if not spans:
            return
        try:
            connection.send(as_request([(service, span) for _, service, span in spans]))
        except RefusedError as error:
            if not self._speaks_otlp:
                _confirm(connection, error)
                self._speaks_otlp = True
            if len(spans) == 1:
                self._send_smaller(connection, *spans[0], error, outcome)
                return
            middle = len(spans) // 2
            self._send(connection, spans[:middle], outcome)
            self._send(connection, spans[middle:], outcome)

    def _send_smaller(
        self, connection: _Connection, index: int, service: str, span: Any, refusal: RefusedError, outcome: Outcome
    ) -> None:
        """Send a span that is refused alone again, cut, where its size may be the reason."""
        from otel_audit_exporters.otlp_cut import smaller_spans
        from otel_audit_exporters.otlp_spans import as_request

        may_be_size = refusal.too_large or span.ByteSize() > _LARGE
        for smaller in smaller_spans(span) if may_be_size else ():
            try:
                connection.send(as_request([(service, smaller)]))
            except RefusedError as error:
                refusal = error
            else:
                return
        outcome.rejections.append(Rejection(index, REFUSED, str(refusal)))


def _confirm(connection: _Connection, refusal: RefusedError) -> None:
    """Make sure that a refusal is meant for the spans: a collector takes a request without any.

    Raises:
        CollectorAwayError: it does not; what stands there refuses whatever it is sent.
    """
    from otel_audit_exporters.otlp_spans import as_request

    try:
        connection.send(as_request([]))
    except RefusedError:
        raise CollectorAwayError(f"What answers there takes no OTLP at all: {refusal}") from refusal


def _connect() -> _Connection:
    protocol, exporter = bare_exporter()
    return _Grpc(exporter) if protocol == GRPC else _Http(exporter)


class _Http:
    """OTLP over HTTP, by the transport of OpenTelemetry's exporter: TLS, proxies, headers and compression are its."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        self._client = exporter._client
        self._where = _place(self._client._endpoint)

    def send(self, request: Any) -> None:
        client = self._client
        data = client._compress(request.SerializeToString())
        answer = client._submit(data, client._timeout)
        if answer.error is not None or answer.status_code is None:
            raise CollectorAwayError(f"The collector {self._where} does not answer: {_kind(answer.error)}.")
        status, headers = answer.status_code, answer.headers()
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if 200 <= status < 300:
            self._read_success(answer.content(), content_type)
            return
        said = f"The collector {self._where} answers {status}: {_reason(answer.content(), content_type)}"
        if status in _CONTENT_STATUSES:
            raise RefusedError(said, status == 413)
        raise CollectorAwayError(said, _retry_after(headers.get("retry-after")))

    def close(self) -> None:
        self._exporter.shutdown()

    def _read_success(self, content: bytes, content_type: str) -> None:
        from google.protobuf.json_format import Parse, ParseError
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        if not content:
            return
        try:
            if content_type == "application/json":
                answer = Parse(content, ExportTraceServiceResponse(), ignore_unknown_fields=True)
            elif content_type in ("application/x-protobuf", "application/protobuf", ""):
                answer = ExportTraceServiceResponse.FromString(content)
            else:
                raise CollectorAwayError(f"What answers at {self._where} is no collector: it sends {content_type!r}.")
        except (DecodeError, ParseError, ValueError) as error:
            raise CollectorAwayError(f"The answer of the collector {self._where} cannot be read.") from error
        _require_all(answer)


class _Grpc:
    """OTLP over gRPC, by the channel of OpenTelemetry's exporter."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        self._where = _place(f"//{exporter._endpoint}")

    def send(self, request: Any) -> None:
        from grpc import RpcError

        exporter = self._exporter
        try:
            answer = exporter._client.Export(request=request, metadata=exporter._headers, timeout=exporter._timeout)
        except RpcError as error:
            raise self._failure(error) from error
        _require_all(answer)

    def close(self) -> None:
        self._exporter.shutdown()

    def _failure(self, error: Any) -> OTelAuditError:
        code, after = error.code().name, _retry_info(error)
        # gRPC names the endpoint as it was written, with credentials if they stand there.
        details = (error.details() or "").replace(self._exporter._endpoint, self._where)
        said = f"The collector {self._where} answers {code}: {_short(details)}"
        if code in _CONTENT_CODES and after is None:
            return RefusedError(said, code == "RESOURCE_EXHAUSTED")
        return CollectorAwayError(said, after or 0.0)


def _require_all(answer: Any) -> None:
    """Read a success as the specification writes it: what it says of rejected spans makes it none."""
    partial = answer.partial_success
    if partial.rejected_spans:
        reason = _short(partial.error_message) or "it gives no reason"
        raise RefusedError(f"The collector rejected {partial.rejected_spans} spans: {reason}")


def _retry_info(error: Any) -> float | None:
    """Return the seconds that a gRPC error says to wait; None where it does not."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import RetryInfo

    found = dict(error.trailing_metadata() or ()).get("google.rpc.retryinfo-bin")
    if found is None:
        return None
    try:
        delay = RetryInfo.FromString(found).retry_delay
    except DecodeError:
        return 0.0
    return float(delay.seconds + delay.nanos / 1e9)


def _retry_after(value: str | None) -> float:
    """Return the seconds that ``Retry-After`` asks for: a number, or a date (RFC 9110); 0 where it says neither."""
    try:
        seconds = float(value or 0)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value or "").timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def _reason(content: bytes, content_type: str) -> str:
    """Return what an error says: a ``google.rpc.Status``, or the beginning of a text."""
    from google.protobuf.message import DecodeError
    from google.rpc.status_pb2 import Status

    if content_type in ("application/x-protobuf", "application/protobuf"):
        try:
            return _short(Status.FromString(content).message)
        except DecodeError:
            return "no readable reason"
    if content_type == "application/json":
        try:
            found = json.loads(content)
        except ValueError:
            return "no readable reason"
        if isinstance(found, Mapping) and isinstance(message := found.get("message"), str):
            return _short(message)
    return _short(content[: 4 * _SAID].decode("utf-8", "replace"))


def _short(text: str) -> str:
    """Return a foreign text on one line, without secrets."""
    return without_credentials(" ".join(text[: 4 * _SAID].split()))[:_SAID]


def _kind(error: BaseException | None) -> str:
    """Name an error; what a transport says of it may show a URL with credentials."""
    return type(error).__name__


def _place(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
