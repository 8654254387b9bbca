"""What the package offers to OpenTelemetry's own configuration, named ``otel_audit`` in its entry point groups.

No model is imported here: an entry point that does so before Django is set up aborts all of OpenTelemetry's set-up.
"""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

from otel_audit_exporters.exporter import DatabaseSpanExporter
from otel_audit_exporters.processor import AuditSpanProcessor
from otel_audit_exporters.sampler import AuditSampler

__all__ = ["DatabaseSpanExporter", "audit_sampler", "post_instrument"]


def audit_sampler(argument: str | None = None) -> Sampler:
    """Return the sampler of ``OTEL_TRACES_SAMPLER=otel_audit``.

    Args:
        argument: ``OTEL_TRACES_SAMPLER_ARG``, the ratio of traces to forward (0 to 1); all by default.
    """
    if not argument:
        return AuditSampler(DEFAULT_ON)
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    return AuditSampler(ParentBasedTraceIdRatio(float(argument)))


def post_instrument() -> None:
    """Under ``opentelemetry-instrument`` with ``OTEL_TRACES_EXPORTER=otel_audit``: record from the first span on.

    The processor knows what encloses a span when it starts, which an exporter can only reconstruct.
    """
    exporters = {name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "").split(",")}
    provider = trace.get_tracer_provider()
    if "otel_audit" in exporters and isinstance(provider, TracerProvider):
        provider.add_span_processor(AuditSpanProcessor(server_spans=True))
