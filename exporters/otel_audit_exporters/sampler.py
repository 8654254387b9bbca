"""Keeps every audit span recorded whatever the site's sampler says, without changing what the site forwards.

``RECORD_ONLY`` reaches span processors, but neither Simple- nor BatchSpanProcessor exports it. A sampler that upgraded
every span would record each database span as well, at twice the cost of a request.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from otel_audit.attributes import AUDIT_KIND
from otel_audit.scope import note_of

__all__ = ["AuditSampler"]


class AuditSampler(Sampler):
    """Asks ``inner`` (default: OpenTelemetry's own default) and records SERVER and ``audit.kind`` spans in any case.

    Spans inside a process are recorded too, as a step below one that is not would not find its process.
    """

    def __init__(self, inner: Sampler | None = None) -> None:
        self.inner = DEFAULT_ON if inner is None else inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return the inner sampler's decision, with DROP raised to RECORD_ONLY for audit spans."""
        result = self.inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if result.decision is not Decision.DROP:
            return result
        is_audit = kind is SpanKind.SERVER or (attributes is not None and AUDIT_KIND in attributes)
        if is_audit or note_of(get_current_span(parent_context)) is not None:
            # The SDK's own samplers hand the span's attributes back only when they record.
            return SamplingResult(Decision.RECORD_ONLY, result.attributes or attributes, result.trace_state)
        return result

    def get_description(self) -> str:
        """Return the name that shows in OpenTelemetry's diagnostics."""
        return f"AuditSampler{{{self.inner.get_description()}}}"
