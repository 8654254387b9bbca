"""The stock route: a ``SpanExporter`` for any ``SpanProcessor``, the entry point ``OTEL_TRACES_EXPORTER=otel_audit``.

Best effort: the processor in front of it may drop spans, and it knows of a request no more than the span's
attributes. It stands down where our own processor is attached, as that one's records are complete.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from otel_audit.attributes import AUDIT_KIND, AUDIT_STEP_ORDER, KIND_PROCESS, KIND_STEP
from otel_audit.edges import report
from otel_audit.ids import record_id
from otel_audit.scope import Note

if TYPE_CHECKING:
    from otel_audit_exporters.direct import DirectWriter

__all__ = ["DatabaseSpanExporter"]

logger = logging.getLogger("otel_audit.delivery")

_Key = tuple[int, int]
#: Spans whose children may still come; the oldest are forgotten first.
_MAX_NODES: Final = 10_000
KIND_REQUEST: Final = "request"


class DatabaseSpanExporter(SpanExporter):
    """Writes SERVER, process and step spans as rows of the five models; FAILURE when the database did not take them."""

    def __init__(self) -> None:
        self._lineage = _Lineage()
        self._direct: DirectWriter | None = None
        self._told = False
        self._shut_down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write ``spans`` before returning; never raises."""
        if self._shut_down:
            return SpanExportResult.FAILURE
        try:
            return self._export(spans)
        except Exception:  # an exporter returns FAILURE, it does not raise into the processor
            report("DatabaseSpanExporter.export")
            return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Refuse spans from here on."""
        self._shut_down = True
        if self._direct is not None:
            self._direct.close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: `export` returns when the rows are written."""
        return True

    def _export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        from opentelemetry import trace

        from otel_audit.conf import conf
        from otel_audit_exporters.direct import DirectWriter
        from otel_audit_exporters.envelope import encode_span, seal
        from otel_audit_exporters.pipeline import pipeline
        from otel_audit_exporters.processor import AuditSpanProcessor

        processors = getattr(
            getattr(trace.get_tracer_provider(), "_active_span_processor", None), "_span_processors", ()
        )
        if any(isinstance(one, AuditSpanProcessor) for one in processors):
            self._say_that_it_stands_down()
            return SpanExportResult.SUCCESS
        if not conf.enabled:
            return SpanExportResult.SUCCESS
        observed = datetime.now(UTC).isoformat(timespec="microseconds")
        service = conf.service_name
        payloads: list[bytes] = []
        for span, note in self._lineage.notes(spans):
            named = service or str(span.resource.attributes.get("service.name", ""))
            payloads.extend(seal(record, "", 0, observed) for record in encode_span(span, note, named))
        if not payloads:
            return SpanExportResult.SUCCESS
        if self._direct is None:
            self._direct = DirectWriter(pipeline.write, pauses=False)
        outcome = self._direct.write(payloads, at_request=False)
        return SpanExportResult.FAILURE if outcome.rejections else SpanExportResult.SUCCESS

    def _say_that_it_stands_down(self) -> None:
        if not self._told:
            self._told = True
            logger.info("DatabaseSpanExporter stands down: otel_audit's own processor records these spans.")


@dataclass(slots=True)
class _Node:
    """A span by its key: its record id, reserved for it by a child until it arrives itself."""

    id: str
    kind: str | None = None
    parent: _Key | None = None
    arrived: bool = False
    reserved: bool = False
    order: int | None = None
    steps: Iterator[int] = field(default_factory=lambda: count(1))


class _Lineage:
    """Finds the request and process around a span although children are exported before their parents.

    A child reserves the id of a parent that has not arrived; an ordinary span hands the reservation on to its own
    parent when it arrives.
    """

    def __init__(self) -> None:
        self._nodes: OrderedDict[_Key, _Node] = OrderedDict()
        # Threads export side by side; garbage collection may end a span, and so export, in a thread that does.
        self._lock = threading.RLock()

    def notes(self, spans: Sequence[ReadableSpan]) -> list[tuple[ReadableSpan, Note]]:
        """Return the audit spans among ``spans``, oldest first, with what encloses them."""
        ordered = sorted(spans, key=lambda span: span.start_time or 0)
        with self._lock:
            arrived = [(span, self._arrive(span)) for span in ordered]
            return [(span, self._note(node)) for span, node in arrived if node is not None and node.kind is not None]

    def _arrive(self, span: ReadableSpan) -> _Node | None:
        context = span.get_span_context()
        if context is None:
            return None
        node = self._node((context.trace_id, context.span_id), span)
        node.arrived = True
        node.kind = _kind(span)
        order = (span.attributes or {}).get(AUDIT_STEP_ORDER)
        node.order = order if isinstance(order, int) else None
        if span.parent is not None and not span.parent.is_remote:
            node.parent = (span.parent.trace_id, span.parent.span_id)
            above = self._node(node.parent, span)
            if node.kind is None and node.reserved and not above.arrived and not above.reserved:
                above.id, above.reserved = node.id, True
        return node

    def _note(self, node: _Node) -> Note:
        note = Note(str(node.kind), node.id, order=node.order)
        if node.kind == KIND_REQUEST:
            note.request_id = node.id
        elif node.kind == KIND_PROCESS:
            note.process_id = node.id
            enclosing = self._ancestor(node, KIND_REQUEST)
            note.request_id = enclosing.id if enclosing is not None else None
        else:
            note.step_id = node.id
            enclosing = self._ancestor(node, KIND_PROCESS)
            if enclosing is not None:
                note.process_id = enclosing.id
                note.order = next(enclosing.steps) if node.order is None else node.order
        return note

    def _ancestor(self, node: _Node, kind: str) -> _Node | None:
        """Return the nearest enclosing ``kind``; one that has not arrived yet is taken for it, and reserved."""
        key = node.parent
        while key is not None:
            above = self._nodes.get(key)
            if above is None:
                return None  # forgotten: more spans are open than are remembered
            if not above.arrived:
                above.reserved = True
                return above
            if above.kind == kind:
                return above
            key = above.parent
        return None

    def _node(self, key: _Key, span: ReadableSpan) -> _Node:
        if key not in self._nodes:
            self._nodes[key] = _Node(record_id(span.start_time))
            while len(self._nodes) > _MAX_NODES:
                self._nodes.popitem(last=False)
        return self._nodes[key]


def _kind(span: ReadableSpan) -> str | None:
    if span.kind is SpanKind.SERVER:
        return KIND_REQUEST
    kind = (span.attributes or {}).get(AUDIT_KIND)
    return str(kind) if kind in (KIND_PROCESS, KIND_STEP) else None
