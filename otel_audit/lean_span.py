"""The SERVER span of a request that nobody but us will see.

Where the site itself exports its spans nowhere, only our own processors would get this one, and letting the SDK make
it costs a quarter of all that an audited request is charged. Whoever asks for the current span finds what the SDK would
give: ids of the provider's generator, its sampler's decision, attributes, events, a parent for the spans of the view.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
)
from opentelemetry.util.types import Attributes, AttributeValue

from otel_audit.attributes import EVENT_LOGIN, EVENT_REGISTRATION

__all__ = ["LeanSpan", "start_lean_span"]

#: OpenTelemetry's default limit of attributes and of events, so that a view in a loop fills no memory.
_LIMIT: Final = 128
_KEPT: Final = frozenset({EVENT_LOGIN, EVENT_REGISTRATION})


class LeanSpan(Span):
    """Has what `opentelemetry.sdk.trace.ReadableSpan` has, as far as processors and exporters of ours read it."""

    kind = SpanKind.SERVER
    links: Sequence[Link] = ()
    dropped_attributes = dropped_events = dropped_links = 0
    instrumentation_scope = InstrumentationScope("otel_audit")
    end_time: int | None = None

    def __init__(
        self, name: str, context: SpanContext, parent: SpanContext | None, attributes: Attributes, resource: Resource
    ) -> None:
        self.name = name
        self.context = context
        self.parent = parent
        self.attributes: dict[str, Any] = dict(attributes or {})
        self.resource = resource
        self.status = _UNSET
        self.start_time = time.time_ns()
        self._events: list[Event] = []

    @property
    def events(self) -> Sequence[Event]:
        """The events so far."""
        return tuple(self._events)

    def get_span_context(self) -> SpanContext:
        """Return the ids."""
        return self.context

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return self.end_time is None

    def end(self, end_time: int | None = None) -> None:
        """End it, once."""
        if self.end_time is None:
            self.end_time = time.time_ns() if end_time is None else end_time

    def update_name(self, name: str) -> None:
        """Change the name."""
        if self.end_time is None:
            self.name = name

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set one attribute."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes."""
        if self.end_time is not None:
            return
        for key, value in attributes.items():
            self.attributes.pop(key, None)
            self.attributes[key] = value
            if len(self.attributes) > _LIMIT:
                del self.attributes[next(iter(self.attributes))]
                self.dropped_attributes += 1

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status; ``OK`` is final, and nothing makes it unset again."""
        given = status if isinstance(status, Status) else Status(status, description)
        is_final = self.status.status_code is StatusCode.OK or given.status_code is StatusCode.UNSET
        if self.end_time is None and not is_final:
            self.status = given

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Add an event; one that becomes a record is always kept."""
        if self.end_time is not None:
            return
        if len(self._events) >= _LIMIT and name not in _KEPT:
            self.dropped_events += 1
        else:
            self._events.append(Event(name, BoundedAttributes(attributes=attributes), timestamp))

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Do nothing: the guard notes exceptions itself, and nobody else reads this span when it has ended."""


_UNSET: Final = Status(StatusCode.UNSET)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


def start_lean_span(
    provider: TracerProvider, name: str, parent_context: Context | None, attributes: dict[str, Any]
) -> LeanSpan | None:
    """Start the span as the provider's tracers would; None where its sampler records none."""
    generator, sampler = provider.id_generator, provider.sampler
    if parent_context is not None and not parent_context and getattr(sampler, "samples_roots", False):  # most requests
        context = SpanContext(generator.generate_trace_id(), generator.generate_span_id(), False, _SAMPLED)
        return LeanSpan(name, context, None, attributes, provider.resource)
    parent: SpanContext | None = get_current_span(parent_context).get_span_context()
    if parent is None or not parent.is_valid:
        parent, trace_id = None, generator.generate_trace_id()
    else:
        trace_id = parent.trace_id
    result = sampler.should_sample(parent_context, trace_id, name, SpanKind.SERVER, attributes, ())
    if result.decision is Decision.DROP:
        return None
    flags = _SAMPLED if result.decision is Decision.RECORD_AND_SAMPLE else TraceFlags(TraceFlags.DEFAULT)
    context = SpanContext(trace_id, generator.generate_span_id(), False, flags, result.trace_state)
    return LeanSpan(name, context, parent, result.attributes or attributes, provider.resource)
