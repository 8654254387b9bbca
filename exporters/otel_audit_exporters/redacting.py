"""A wrapping exporter that masks secrets in names, attributes and events before the inner one sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status
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
    return ReadableSpan(
        name=redactor.text(span.name),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_attributes(span.attributes, redactor),
        events=[Event(event.name, _attributes(event.attributes, redactor), event.timestamp) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(
            span.status.status_code,
            redactor.text(span.status.description) if span.status.description else None,
        ),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _attributes(attributes: Attributes, redactor: Redactor) -> Attributes:
    if not attributes:
        return attributes
    return {key: _value(key, value, redactor) for key, value in attributes.items()}


def _value(key: str, value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        if key in _QUERY_ATTRIBUTES:
            return redactor.query(value)
        if key in _URL_ATTRIBUTES:
            path, mark, query = value.partition("?")
            return redactor.text(path) + mark + redactor.query(query)
        return redactor.value({key: value})[key]
    if isinstance(value, tuple | list):
        return tuple(_value(key, item, redactor) for item in value)
    return value
