"""Forwarding to an OTLP collector in a pipeline of its own, redacted, beside the audit trail and never in its way.

``OTEL_AUDIT["OTLP"]`` says where. The standard ``OTEL_EXPORTER_OTLP_*`` variables count only where the site has no
OTLP exporter of its own, else each span would go out twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from otel_audit.conf import conf
from otel_audit.exceptions import ConfigurationError
from otel_audit_exporters.redacting import RedactingSpanExporter

__all__ = ["collector_exporter", "forwarding_processors"]

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_OPTIONS: Final = ("endpoint", "headers", "timeout")


def forwarding_processors(provider: TracerProvider) -> Iterator[SpanProcessor]:
    """Yield the processor that forwards the spans of ``provider``, or nothing where no collector is configured."""
    if conf.otlp is None and _has_otlp_exporter(provider):
        return
    exporter = collector_exporter()
    if exporter is not None:
        yield BatchSpanProcessor(exporter)


def collector_exporter() -> SpanExporter | None:
    """Return the exporter to the configured collector, redacting; None where none is configured.

    Raises:
        ConfigurationError: the protocol is unknown, or its package is not installed.
    """
    configured = conf.otlp
    if configured is None:
        if not any(os.environ.get(name) for name in _VARIABLES):
            return None
        configured = {}
    protocol = configured.get("protocol") or os.environ.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", HTTP)
    )
    options = {key: configured[key] for key in _OPTIONS if configured.get(key) is not None}
    return RedactingSpanExporter(_exporter_class(protocol)(**_fitted(protocol, options)))


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


def _fitted(protocol: str, options: dict[str, Any]) -> dict[str, Any]:
    if protocol == GRPC:
        endpoint = str(options.get("endpoint", ""))
        if endpoint.startswith("http://"):
            options["insecure"] = True
        if isinstance(options.get("headers"), Mapping):
            options["headers"] = tuple(options["headers"].items())
    return options


def _has_otlp_exporter(provider: TracerProvider) -> bool:
    """Whether the site forwards by OTLP itself; looks through processors and wrapping exporters."""
    for processor in getattr(provider._active_span_processor, "_span_processors", ()):
        exporter = getattr(processor, "span_exporter", None)
        while exporter is not None:
            if ".otlp." in type(exporter).__module__:
                return True
            exporter = getattr(exporter, "inner", None)
    return False
