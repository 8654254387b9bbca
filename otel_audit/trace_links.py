"""Where the trace of a record is shown: in Jaeger, Tempo or whatever ``OTEL_AUDIT["TRACE_URL"]`` names."""

from __future__ import annotations

from otel_audit.conf import conf
from otel_audit.models import AuditEvent

__all__ = ["trace_url"]


def trace_url(event: AuditEvent) -> str | None:
    """Return the address of the trace of ``event``; None without a trace, or where the site does not say where."""
    template = conf.trace_url
    if template is None or not event.trace_id:
        return None
    return template.format(trace_id=event.trace_id, span_id=event.span_id)
