"""A span that is too large for a collector → smaller ones that say what they have lost: better than none.

The row in the audit database is whole, and the span has its ids. What was cut stands under ``audit.changed``, how many
attributes were left out in OpenTelemetry's own count. A collector does not say how much it takes, so there are several,
each smaller than the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_audit import attributes as keys

__all__ = ["TEXT_LIMITS", "smaller_spans"]

#: Characters of a text, or items of a list; the last one leaves what identifies a record.
TEXT_LIMITS: Final = (8192, 1024, 128)
#: Of the smallest span.
_MAX_ATTRIBUTES: Final = 64


def smaller_spans(span: Span) -> Iterator[Span]:
    """Yield copies of ``span``, each smaller than the one before; none where nothing of it is large."""
    largest = span
    for limit in TEXT_LIMITS:
        copy = _cut(largest, limit)
        if copy is not None:
            largest = copy
            yield copy
    if len(largest.attributes) > _MAX_ATTRIBUTES:
        yield _with_few_attributes(largest)


def _cut(span: Span, limit: int) -> Span | None:
    copy = Span()
    copy.CopyFrom(span)
    changed = [item.key for item in copy.attributes if _cut_value(item.value, limit)]
    if len(copy.name) > limit:
        copy.name = copy.name[:limit]
        changed.append("name")
    if not changed:
        return None
    _mark(copy, changed)
    return copy


def _cut_value(value: AnyValue, limit: int) -> bool:
    """Cut a value in its place; whether it was too long."""
    if value.HasField("string_value") and len(value.string_value) > limit:
        value.string_value = value.string_value[:limit]
        return True
    if value.HasField("array_value"):
        items = value.array_value.values
        longer = len(items) > limit
        del items[limit:]
        return any([_cut_value(item, limit) for item in items]) or longer  # noqa: C419  # all of them are cut
    return False


def _mark(span: Span, changed: Sequence[str]) -> None:
    values = next((item.value for item in span.attributes if item.key == keys.AUDIT_CHANGED), None)
    if values is None:
        values = span.attributes.add(key=keys.AUDIT_CHANGED).value
        values.array_value.SetInParent()
    known = {value.string_value for value in values.array_value.values}
    for name in changed:
        if name not in known and name != keys.AUDIT_CHANGED:
            values.array_value.values.add(string_value=name)


def _with_few_attributes(span: Span) -> Span:
    """Return a copy with the attributes of the audit trail first, and a count of those that are left out."""
    copy = Span()
    copy.CopyFrom(span)
    kept = sorted(span.attributes, key=lambda item: not item.key.startswith("audit."))[:_MAX_ATTRIBUTES]
    del copy.attributes[:]
    copy.attributes.extend(kept)
    copy.dropped_attributes_count = span.dropped_attributes_count + len(span.attributes) - len(kept)
    for item in copy.attributes:
        _cut_value(item.value, _MAX_ATTRIBUTES)
    return copy
