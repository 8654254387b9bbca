"""A wrapping exporter that masks secrets in names, attributes and events before the inner one sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, EventBase, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, Status
from opentelemetry.util.types import Attributes

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.redaction import Redactor

__all__ = ["RedactingSpanExporter"]

_QUERY_ATTRIBUTES = frozenset({keys.URL_QUERY})
_URL_ATTRIBUTES = frozenset({keys.URL_FULL, keys.OLD_HTTP_URL, keys.OLD_HTTP_TARGET})


class RedactingSpanExporter(SpanExporter):
    """Keeps the whole contract of ``inner`` and hands it redacted copies.

    Args:
        inner: any span exporter, for example an ``OTLPSpanExporter``.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self.inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export redacted copies of ``spans``."""
        redactor = conf.redactor
        return self.inner.export([_redacted(span, redactor) for span in spans])

    def shutdown(self) -> None:
        """Shut the inner exporter down."""
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the inner exporter."""
        return self.inner.force_flush(timeout_millis)


def _redacted(span: ReadableSpan, redactor: Redactor) -> ReadableSpan:
    description = span.status.description
    return ReadableSpan(
        name=redactor.text(span.name),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_attributes(span.attributes, span.dropped_attributes, redactor),
        events=_list((_event(event, redactor) for event in span.events), span.dropped_events),
        links=_list((_link(link, redactor) for link in span.links), span.dropped_links),
        kind=span.kind,
        status=Status(span.status.status_code, redactor.text(description) if description else None),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _event(event: EventBase, redactor: Redactor) -> Event:
    dropped = getattr(event, "dropped_attributes", 0)
    return Event(event.name, _attributes(event.attributes, dropped, redactor), event.timestamp)


def _link(link: Link, redactor: Redactor) -> Link:
    return Link(link.context, _attributes(link.attributes, link.dropped_attributes, redactor))


def _attributes(attributes: Attributes, dropped: int, redactor: Redactor) -> Attributes:
    """Return masked copies that still say how many others the span's limits dropped."""
    masked = BoundedAttributes(
        attributes={key: _value(key, value, redactor) for key, value in (attributes or {}).items()}
    )
    masked.dropped = dropped
    return masked


def _list(items: Iterable[Any], dropped: int) -> BoundedList[Any]:
    kept: BoundedList[Any] = BoundedList(None)
    kept.extend(list(items))
    kept.dropped = dropped
    return kept


def _value(key: str, value: Any, redactor: Redactor) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_value(key, item, redactor) for item in value)
    if isinstance(value, str):
        if key in _QUERY_ATTRIBUTES:
            return redactor.query(value)
        if key in _URL_ATTRIBUTES:
            path, mark, query = value.partition("?")
            return redactor.text(path) + mark + redactor.query(query)
    if isinstance(value, str | Mapping):
        (masked,) = redactor.value({key: value}).values()
        return masked
    return value
