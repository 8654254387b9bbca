"""Keeps every audit span recorded whatever the site's sampler says, without changing what the site forwards.

``RECORD_ONLY`` reaches span processors, but neither Simple- nor BatchSpanProcessor exports it. A sampler that upgraded
every span would record each database span as well, at twice the cost of a request.

What runs below a process is handed its id as a member of the trace state, also by the SDKs of other services, where
the site shares a secret with any: see `otel_audit.trace_member`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from otel_audit.attributes import AUDIT_KIND, AUDIT_RECORD_ID, KIND_PROCESS
from otel_audit.conf import conf
from otel_audit.edges import edge
from otel_audit.ids import record_id, uuid7
from otel_audit.scope import note_of
from otel_audit.trace_member import MEMBER, member_of

__all__ = ["AuditSampler"]

#: Members that W3C allows in a trace state; OpenTelemetry's class drops them all where there are more.
_MAX_MEMBERS: Final = 32


class AuditSampler(Sampler):
    """Asks ``inner`` (default: OpenTelemetry's own default) and records SERVER and ``audit.kind`` spans in any case.

    Spans inside a process are recorded too, as a step below one that is not would not find its process.
    """

    def __init__(self, inner: Sampler | None = None) -> None:
        self.inner = DEFAULT_ON if inner is None else inner
        #: Read by `otel_audit.lean_span`: whatever has no parent is sampled, so nobody has to be asked.
        self.samples_roots = type(self) is AuditSampler and self.inner is DEFAULT_ON

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
        audited = None if attributes is None else attributes.get(AUDIT_KIND)
        if result.decision is Decision.DROP:
            if audited is None and kind is not SpanKind.SERVER and note_of(get_current_span(parent_context)) is None:
                return result
            # The SDK's own samplers hand the span's attributes back only when they record.
            result = SamplingResult(Decision.RECORD_ONLY, result.attributes or attributes, result.trace_state)
        if audited == KIND_PROCESS:
            with edge("AuditSampler.should_sample"):
                return _naming_process(result, trace_id) if conf.trusted_peers else result
        return result

    def get_description(self) -> str:
        """Return the name that shows in OpenTelemetry's diagnostics."""
        return f"AuditSampler{{{self.inner.get_description()}}}"


def _naming_process(result: SamplingResult, trace_id: int) -> SamplingResult:
    """Return the result for the span of a process, whose trace state names it where the site shares a secret."""
    identity = uuid7(result.attributes.get(AUDIT_RECORD_ID)) or record_id()
    value = member_of(identity, trace_id)
    if value is None:
        return result
    others = [(key, other) for key, other in (result.trace_state or {}).items() if key != MEMBER]
    return SamplingResult(
        result.decision,
        {**result.attributes, AUDIT_RECORD_ID: identity},  # which our processor takes for the record
        TraceState([(MEMBER, value), *others[: _MAX_MEMBERS - 1]]),
    )
