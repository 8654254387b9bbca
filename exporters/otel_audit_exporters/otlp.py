"""Forwarding to an OTLP collector in a pipeline of its own, redacted, beside the audit trail and never in its way.

That is best effort, as OpenTelemetry's own. With ``"durable"`` the spans of the audit trail go from the spool instead;
see `otel_audit_exporters.otlp_sink`.

``OTEL_AUDIT["OTLP"]`` says where. The standard ``OTEL_EXPORTER_OTLP_*`` variables count only where the site has no
OTLP exporter of its own, else each span would go out twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind

from otel_audit.attributes import AUDIT_KIND, AUDIT_RECORD_ID
from otel_audit.conf import conf
from otel_audit.exceptions import ConfigurationError
from otel_audit.forwarding import compression, first_problem, tls_files
from otel_audit.options import OTLP_LEVELS
from otel_audit.scope import current_request
from otel_audit_exporters.otlp_bounds import BoundedRequests
from otel_audit_exporters.redacting import RedactingSpanExporter
from otel_audit_exporters.trace_level import TraceLevelExporter

__all__ = [
    "GRPC",
    "bare_exporter",
    "collector_exporter",
    "forwarding_level",
    "forwarding_processors",
    "resource_attributes",
]

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_OPTIONS: Final = ("endpoint", "headers", "timeout")


def forwarding_processors(provider: TracerProvider) -> Iterator[SpanProcessor]:
    """Yield the processor that forwards the spans of ``provider``, or nothing where no collector is configured.

    Where the spool forwards the audit trail, this leaves out its spans, so that each goes out once.
    """
    from otel_audit_exporters.sinks import forwards_durably

    if conf.otlp is None and _has_otlp_exporter(provider):
        return
    exporter = collector_exporter()
    if exporter is not None:
        yield _OrdinarySpans(exporter) if forwards_durably() else _EverySpan(exporter)


def collector_exporter() -> SpanExporter | None:
    """Return the exporter to the configured collector, redacting; None where none is configured.

    Raises:
        ConfigurationError: the protocol is unknown, its package is not installed, or a file of TLS cannot be used.
    """
    if conf.otlp is None and not any(os.environ.get(name) for name in _VARIABLES):
        return None
    kind = TraceLevelExporter if forwarding_level() == OTLP_LEVELS[0] else RedactingSpanExporter
    return kind(BoundedRequests(bare_exporter()[1]))


def forwarding_level() -> str:
    """Return how much a collector is told: ``"trace"``, ``"audit"`` or ``"full"``."""
    return str((conf.otlp or {}).get("level") or OTLP_LEVELS[0])


def bare_exporter() -> tuple[str, Any]:
    """Return the protocol, and OpenTelemetry's exporter with the settings of this site, which redacts nothing.

    Raises:
        ConfigurationError: the protocol is unknown, its package is not installed, or a file of TLS cannot be used.
    """
    configured = conf.otlp or {}
    protocol = configured.get("protocol") or os.environ.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", HTTP)
    )
    options = {key: configured[key] for key in _OPTIONS if configured.get(key) is not None}
    exporter_class = _exporter_class(protocol)
    if (problem := first_problem()) is not None:
        raise ConfigurationError(problem)
    return protocol, exporter_class(**{**options, **_FITTED[protocol](options)})


class _EverySpan(BatchSpanProcessor):
    """Forwards, as best effort, every span that has ended."""

    #: Read by `otel_audit.provider`: a request's span may be our own, which is only to be had when it has ended.
    wants_requests = True


class _OrdinarySpans(BatchSpanProcessor):
    """Forwards, as best effort, what is no record of the audit trail: queries, calls to other services."""

    wants_requests = False

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ordinary span."""
        if not _is_of_the_trail(span):
            super().on_end(span)


@lru_cache(maxsize=1)
def resource_attributes() -> Mapping[str, Any]:
    """Return what describes this process; asked for in time, as OpenTelemetry finds it out in threads.

    While the interpreter ends, there are no new ones: what is sent only then would not be.
    """
    return Resource.create().attributes


def _is_of_the_trail(span: ReadableSpan) -> bool:
    found = span.attributes or {}
    if AUDIT_RECORD_ID in found or AUDIT_KIND in found:
        return True
    return span.kind is SpanKind.SERVER and current_request.get() is not None


def _exporter_class(protocol: str) -> Any:
    try:
        if protocol == HTTP:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

            return HttpExporter
        if protocol == GRPC:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

            return GrpcExporter
    except ImportError as error:
        extra = "otlp" if protocol == HTTP else "otlp-grpc"
        raise ConfigurationError(
            f"forwarding by {protocol} needs a package that is not installed; write pip install 'otel-audit[{extra}]'."
        ) from error
    raise ConfigurationError(f"OTEL_AUDIT['OTLP']['protocol'] is {protocol!r}; write {HTTP!r} or {GRPC!r}.")


def _for_http(_options: Mapping[str, Any]) -> dict[str, Any]:
    from opentelemetry.exporter.otlp.proto.http import Compression

    from otel_audit_exporters.otlp_session import session_for

    files = tls_files()
    return {
        "compression": Compression(compression()),
        "certificate_file": files.certificate,
        "client_certificate_file": files.client_certificate,
        "client_key_file": files.client_key,
        "session": session_for(files.certificate),
    }


def _for_grpc(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what gRPC's exporter wants otherwise; it reads a client's files beside the server's alone."""
    import grpc

    fitted: dict[str, Any] = {
        "compression": grpc.Compression.Gzip if compression() == "gzip" else grpc.Compression.NoCompression
    }
    if isinstance(headers := options.get("headers"), Mapping):
        fitted["headers"] = tuple((name.lower(), value) for name, value in headers.items())
    if str(options.get("endpoint", "")).startswith("http://"):
        fitted["insecure"] = True
    elif files := tls_files():
        fitted["credentials"] = grpc.ssl_channel_credentials(
            _content(files.certificate),
            _content(files.client_key or files.client_certificate),
            _content(files.client_certificate),
        )
    return fitted


_FITTED: Final[dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {HTTP: _for_http, GRPC: _for_grpc}


def _content(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _has_otlp_exporter(provider: TracerProvider) -> bool:
    """Whether the site forwards by OTLP itself; looks through processors and wrapping exporters."""
    for processor in getattr(provider._active_span_processor, "_span_processors", ()):
        exporter = getattr(processor, "span_exporter", None)
        while exporter is not None:
            if ".otlp." in type(exporter).__module__:
                return True
            exporter = getattr(exporter, "inner", None)
    return False
