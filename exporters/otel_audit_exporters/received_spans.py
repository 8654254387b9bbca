"""OTLP span → the span that our own encoder takes, so that what is received and what is recorded here are one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_audit_exporters.otlp_requests import UnacceptableError

__all__ = ["MAX_ATTRIBUTES", "MAX_EVENTS", "ReceivedSpan", "read_attributes", "read_span"]

#: Of one span, event or resource. OpenTelemetry's own limit is 128.
MAX_ATTRIBUTES: Final = 1_000
#: Of one span. OpenTelemetry's own limit is 128, which our processor lifts.
MAX_EVENTS: Final = 10_000
#: A name is a column of 255 characters, and masked names are remembered.
_MAX_NAME: Final = 1_024

_KINDS: Final = {Span.SPAN_KIND_SERVER: SpanKind.SERVER}
_STATUSES: Final = {1: Status(StatusCode.OK), 2: Status(StatusCode.ERROR)}
#: Without one, OpenTelemetry's class looks for that of this process, in threads.
_NO_RESOURCE: Final = Resource.get_empty()
_UNSET: Final = Status(StatusCode.UNSET)
_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200


class ReceivedSpan(ReadableSpan):
    """A span of another process. What its sender dropped is still said."""

    def __init__(
        self,
        facts: dict[str, Any],
        context: SpanContext,
        attributes: Mapping[str, Any],
        events: Sequence[Event],
        lost: tuple[int, int],
        trace_state: str = "",
    ) -> None:
        super().__init__(context=context, events=events, resource=_NO_RESOURCE, **facts)
        self._facts = facts
        self._received_context = context
        self._received_attributes = attributes
        self._lost = lost
        #: As a header has it.
        self.trace_state = trace_state

    def get_span_context(self) -> SpanContext:
        """Return the ids."""
        return self._received_context

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The attributes as they came: what is nested is kept, which OpenTelemetry's own span would not do."""
        return self._received_attributes

    @property
    def dropped_attributes(self) -> int:
        """How many attributes its sender dropped."""
        return self._lost[0]

    @property
    def dropped_events(self) -> int:
        """How many events its sender dropped."""
        return self._lost[1]

    def bare(self, attributes: Mapping[str, Any], without: Collection[str]) -> ReceivedSpan:
        """Return the span with other attributes, and without the events of the names ``without``."""
        events = [event for event in self.events if event.name not in without]
        return ReceivedSpan(self._facts, self._received_context, attributes, events, self._lost, self.trace_state)


def read_span(span: Span) -> ReceivedSpan:
    """Return the span of an OTLP message.

    Raises:
        UnacceptableError: its ids are none, or it has too many attributes or events.
    """
    if len(span.events) > MAX_EVENTS:
        raise UnacceptableError(400, f"A span has more than {MAX_EVENTS} events.")
    context = _context(span.trace_id, span.span_id, is_remote=False)
    parent = None
    if span.parent_span_id.strip(b"\0"):
        parent = _context(span.trace_id, span.parent_span_id, is_remote=_is_remote(span.flags))
    return ReceivedSpan(
        {
            "name": span.name[:_MAX_NAME],
            "parent": parent,
            "kind": _KINDS.get(span.kind, SpanKind.INTERNAL),
            "status": _STATUSES.get(span.status.code, _UNSET),
            "start_time": span.start_time_unix_nano,
            "end_time": span.end_time_unix_nano,
        },
        context,
        read_attributes(span.attributes),
        [Event(event.name, read_attributes(event.attributes), event.time_unix_nano) for event in span.events],
        (span.dropped_attributes_count, span.dropped_events_count),
        span.trace_state,
    )


def read_attributes(found: Sequence[Any]) -> dict[str, Any]:
    """Return the attributes of a span, event or resource; they are redacted when they are encoded.

    Raises:
        UnacceptableError: there are too many.
    """
    if len(found) > MAX_ATTRIBUTES:
        raise UnacceptableError(400, f"A span, event or resource has more than {MAX_ATTRIBUTES} attributes.")
    return {item.key: _value(item.value) for item in found}


def _context(trace_id: bytes, span_id: bytes, *, is_remote: bool) -> SpanContext:
    if len(trace_id) != 16 or len(span_id) != 8 or not any(trace_id) or not any(span_id):
        raise UnacceptableError(400, "A span has no trace id of 16 bytes or no span id of 8 bytes.")
    return SpanContext(
        int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"), is_remote, TraceFlags(TraceFlags.SAMPLED)
    )


def _is_remote(flags: int) -> bool:
    """Whether the parent is of another process, as far as the sender says so."""
    return bool(flags & _HAS_IS_REMOTE and flags & _IS_REMOTE)


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "array_value":
        return [_value(item) for item in found.values]
    if kind == "kvlist_value":
        return {item.key: _value(item.value) for item in found.values}
    return found
