"""Copies of ended spans that say something else, and still say how much the span's own limits dropped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.util.types import Attributes

__all__ = ["attributes_of", "copy_of", "list_of"]


def copy_of(span: ReadableSpan, **changed: Any) -> ReadableSpan:
    """Return a copy of ``span`` with the arguments of `ReadableSpan` that are given here."""
    kept: dict[str, Any] = {
        "name": span.name,
        "context": span.get_span_context(),
        "parent": span.parent,
        "resource": span.resource,
        "attributes": span.attributes,
        "events": span.events,
        "links": span.links,
        "kind": span.kind,
        "status": span.status,
        "start_time": span.start_time,
        "end_time": span.end_time,
        "instrumentation_scope": span.instrumentation_scope,
    }
    return ReadableSpan(**(kept | changed))


def attributes_of(values: Attributes, dropped: int) -> BoundedAttributes:
    """Return attributes of which ``dropped`` more were dropped."""
    attributes = BoundedAttributes(attributes=values)
    attributes.dropped = dropped
    return attributes


def list_of(items: Iterable[Any], dropped: int) -> BoundedList[Any]:
    """Return events or links of which ``dropped`` more were dropped."""
    kept: BoundedList[Any] = BoundedList(None)
    kept.extend(list(items))
    kept.dropped = dropped
    return kept
