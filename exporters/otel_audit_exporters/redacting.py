"""A wrapping exporter that masks secrets in names, attributes, events and links before the inner one sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from opentelemetry.sdk.trace import Event, EventBase, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, TraceState
from opentelemetry.util.types import Attributes

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.edges import edge
from otel_audit.keyed import is_fingerprint
from otel_audit.links import LINK_HEADERS, URLS, mask_addresses, mask_page, mask_query
from otel_audit.redaction import Redactor, is_mark
from otel_audit.text import storable
from otel_audit.trace_member import MEMBER
from otel_audit_exporters.span_copies import attributes_of, copy_of, list_of

__all__ = ["RedactingSpanExporter"]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_QUERY_ATTRIBUTES: Final = frozenset({keys.URL_QUERY})


class RedactingSpanExporter(SpanExporter):
    """Keeps the whole contract of ``inner`` and hands it redacted copies.

    Args:
        inner: any span exporter, for example an ``OTLPSpanExporter``.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self.inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export redacted copies of ``spans``; one that cannot be read does not cost the others."""
        return self.inner.export(list(_all_redacted(spans, conf.redactor)))

    def shutdown(self) -> None:
        """Shut the inner exporter down."""
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the inner exporter."""
        return self.inner.force_flush(timeout_millis)


def _all_redacted(spans: Sequence[ReadableSpan], redactor: Redactor) -> Iterator[ReadableSpan]:
    for span in spans:
        if (span.attributes or {}).get(keys.AUDIT_RECEIVER) is True:
            continue  # it brought spans to our receiver: sent on, it would come back with the next request, for ever
        copy: ReadableSpan | None = None
        with edge("RedactingSpanExporter.export"):
            copy = _redacted(span, redactor)
        if copy is not None:
            yield copy


def _redacted(span: ReadableSpan, redactor: Redactor) -> ReadableSpan:
    description = span.status.description
    attributes: Mapping[str, Any] = span.attributes or {}
    if span.kind is SpanKind.SERVER:  # it may have reached no view, or come without a middleware of ours
        attributes = mask_addresses(attributes, redactor)
    return copy_of(
        span,
        name=_text(span.name, redactor),
        context=_context(span.get_span_context(), redactor),
        parent=_context(span.parent, redactor),
        attributes=_attributes(attributes, span.dropped_attributes, redactor, _known(attributes)),
        events=list_of((_event(event, redactor) for event in span.events), span.dropped_events),
        links=list_of((_link(link, redactor) for link in span.links), span.dropped_links),
        status=Status(span.status.status_code, _text(description, redactor) if description else None),
    )


def _event(event: EventBase, redactor: Redactor) -> Event:
    dropped = getattr(event, "dropped_attributes", 0)
    return Event(_text(event.name, redactor), _attributes(event.attributes, dropped, redactor), event.timestamp)


def _link(link: Link, redactor: Redactor) -> Link:
    context = _context(link.context, redactor)
    masked = _attributes(link.attributes, link.dropped_attributes, redactor)
    return Link(link.context if context is None else context, masked)


def _context(context: SpanContext | None, redactor: Redactor) -> SpanContext | None:
    """Return a context whose trace state, which a client may send, has no secrets, nor what continues a process."""
    if context is None or not context.trace_state:
        return context
    state = [(key, _value(key, value, redactor)) for key, value in context.trace_state.items() if key != MEMBER]
    return SpanContext(
        context.trace_id, context.span_id, context.is_remote, context.trace_flags, TraceState(entries=state)
    )


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request's span says that only looks like a secret: our hash in the place of a session's key."""
    session = attributes.get(keys.SESSION_ID)
    return {keys.SESSION_ID: session} if keys.AUDIT_RECORD_ID in attributes and is_fingerprint(session) else {}


def _attributes(
    attributes: Attributes, dropped: int, redactor: Redactor, known: Mapping[str, Any] = _NOTHING
) -> Attributes:
    """Return masked copies that still say how many others the span's limits dropped."""
    masked = {
        _text(key, redactor): known[key] if key in known else _value(key, value, redactor)
        for key, value in (attributes or {}).items()
    }
    return attributes_of(masked, dropped)


def _text(text: str, redactor: Redactor) -> str:
    """Return text that can be sent: one lone surrogate in it would cost the whole batch."""
    return storable(redactor.text(text))


def _value(key: str, value: Any, redactor: Redactor) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_value(key, item, redactor) for item in value)
    if isinstance(value, str):
        if key in _QUERY_ATTRIBUTES:
            return storable(mask_query(value, redactor))
        if key in URLS or key in LINK_HEADERS:
            return storable(_url(key, value, redactor))
    (copied,) = redactor.value({key: value}).values()
    if isinstance(copied, str) and is_mark(copied):
        return copied
    if isinstance(value, bool | int | float) or value is None:
        return value
    return storable(copied) if isinstance(copied, str) else copied


def _url(key: str, url: str, redactor: Redactor) -> str:
    path, mark, query = url.partition("?")
    if key in LINK_HEADERS:
        path = mask_page(path, redactor)
    return redactor.text(path) + mark + mask_query(query, redactor, path)
