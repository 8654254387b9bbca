"""Keeps the requests of best-effort forwarding below the size that collectors take.

OpenTelemetry's exporter sends a batch by the number of its spans, and loses all of it when the collector finds it too
large. So a batch is split before it goes out, by an estimate, as encoding it twice would cost more than sending it; a
span that is too large alone is cut and says so, as durable forwarding does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import Event, EventBase, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_audit import attributes as keys
from otel_audit_exporters.span_copies import attributes_of, copy_of, list_of

__all__ = ["MAX_REQUEST_BYTES", "BoundedRequests"]

#: gRPC's own default is 4 MiB, which is that of a Collector; the rest is for what the estimate leaves out.
MAX_REQUEST_BYTES: Final = 3 * 1024 * 1024
_TEXT_LIMITS: Final = (65_536, 8192, 1024, 128)
#: Ids, times, flags and the lengths of all that.
_SPAN, _EVENT, _LINK, _ATTRIBUTE = 120, 24, 48, 16


class BoundedRequests(SpanExporter):
    """Hands ``inner`` as many spans at a time as one request may hold.

    Args:
        inner: any span exporter that sends what it is given in one request.
        limit: bytes.
    """

    def __init__(self, inner: SpanExporter, limit: int = MAX_REQUEST_BYTES) -> None:
        self.inner = inner
        self._limit = limit

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export ``spans``; a part that fails costs no other."""
        results = [self.inner.export(part) for part in self._parts(spans)]
        failed = any(result is not SpanExportResult.SUCCESS for result in results)
        return SpanExportResult.FAILURE if failed else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Shut the inner exporter down."""
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the inner exporter."""
        return self.inner.force_flush(timeout_millis)

    def _parts(self, spans: Sequence[ReadableSpan]) -> Iterator[list[ReadableSpan]]:
        part: list[ReadableSpan] = []
        total = 0
        for whole in spans:
            span, size = whole, _size(whole)
            if size > self._limit:
                span, size = self._fitting(whole)
            if part and total + size > self._limit:
                yield part
                part, total = [], 0
            part.append(span)
            total += size
        if part:
            yield part

    def _fitting(self, span: ReadableSpan) -> tuple[ReadableSpan, int]:
        for limit in _TEXT_LIMITS:
            copy = _copy(span, limit, span.events)
            if (size := _size(copy)) <= self._limit:
                return copy, size
        copy = _copy(span, _TEXT_LIMITS[-1], ())
        return copy, _size(copy)


def _size(span: ReadableSpan) -> int:
    size = _SPAN + len(span.name) + _attributes_size(span.attributes or {}) + _LINK * len(span.links)
    for event in span.events:
        size += _EVENT + len(event.name) + _attributes_size(event.attributes or {})
    return size


def _attributes_size(attributes: Mapping[str, Any]) -> int:
    size = 0
    for key, value in attributes.items():
        size += _ATTRIBUTE + len(key)
        if isinstance(value, str):
            size += _text_size(value)
        elif isinstance(value, Sequence):
            size += sum(_ATTRIBUTE + (_text_size(item) if isinstance(item, str) else 0) for item in value)
    return size


def _text_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _copy(span: ReadableSpan, limit: int, events: Sequence[EventBase]) -> ReadableSpan:
    """Return a copy with shorter texts, and ``events`` of its events; it says what it has lost."""
    changed = list(_values((span.attributes or {}).get(keys.AUDIT_CHANGED)))
    attributes = _cut(span.attributes or {}, limit, changed)
    kept = [
        Event(event.name[:limit], _cut(event.attributes or {}, limit, changed), event.timestamp) for event in events
    ]
    attributes[keys.AUDIT_CHANGED] = tuple(dict.fromkeys(changed))
    return copy_of(
        span,
        name=span.name[:limit],
        attributes=attributes_of(attributes, span.dropped_attributes),
        events=list_of(kept, span.dropped_events + len(span.events) - len(kept)),
    )


def _cut(attributes: Mapping[str, Any], limit: int, changed: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in attributes.items():
        found[key] = _cut_value(value, limit)
        if found[key] != value:
            changed.append(key)
    return found


def _cut_value(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, Sequence):
        return tuple(_cut_value(item, limit) for item in value[:limit])
    return value


def _values(found: Any) -> Iterator[str]:
    if isinstance(found, Sequence) and not isinstance(found, str):
        yield from map(str, found)
