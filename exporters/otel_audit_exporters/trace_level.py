"""The level ``trace`` of best-effort forwarding: spans go out without what the audit trail has put on them.

The record's id stays, as it leads from the trace to the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_audit.attributes import AUDIT_RECEIVER, AUDIT_RECORD_ID
from otel_audit_exporters.redacting import RedactingSpanExporter
from otel_audit_exporters.span_copies import attributes_of, copy_of, list_of

__all__ = ["TraceLevelExporter"]

_OURS: Final = "audit."
#: The one leads to the row, by the other the span is left out.
_KEPT: Final = (AUDIT_RECORD_ID, AUDIT_RECEIVER)


class TraceLevelExporter(RedactingSpanExporter):
    """Redacts, and leaves out the attributes and events of the audit trail."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export copies of ``spans`` that say what a trace says."""
        return super().export([_without_audit(span) for span in spans])


def _without_audit(span: ReadableSpan) -> ReadableSpan:
    found = span.attributes or {}
    kept = {key: value for key, value in found.items() if key in _KEPT or not key.startswith(_OURS)}
    events = [event for event in span.events if not event.name.startswith(_OURS)]
    if len(kept) == len(found) and len(events) == len(span.events):
        return span
    return copy_of(
        span,
        attributes=attributes_of(kept, span.dropped_attributes),
        events=list_of(events, span.dropped_events),
    )
