"""Recognises audit spans when they start and takes them when they end, sampled or not.

``on_end`` can run inside garbage collection while this very thread holds a lock, so it takes none: it puts the span
on a ``SimpleQueue`` and returns. The ids of the enclosing request, process and step are noted at the start, as rows
may arrive in any order.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final
from weakref import ref

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanKind, get_current_span

from otel_audit.attributes import AUDIT_KIND, AUDIT_RECORD_ID, AUDIT_STEP_ORDER, KIND_PROCESS, KIND_STEP
from otel_audit.conf import conf
from otel_audit.edges import edge
from otel_audit.ids import record_id, uuid7
from otel_audit.scope import Note, current_actor, current_note, current_request, note_of, set_note
from otel_audit.trace_member import process_in
from otel_audit_exporters.envelope import has_audit_events

__all__ = ["AuditSpanProcessor"]

KIND_REQUEST: Final = "request"
#: Spans that were let go without having ended, and may still do so in the same garbage collection.
_MAX_DYING: Final = 64

#: A span's own time is that of the call when it is no farther away than this.
_NOW_NS: Final = 5_000_000

_Key = tuple[int, int]


class AuditSpanProcessor(SpanProcessor):
    """Takes process and step spans, and with ``server_spans`` the requests that no middleware of ours serves.

    It never raises into the application. One per provider; the package adds it to the site's provider by itself.

    Args:
        server_spans: also record SERVER spans (the stock route without middleware).
    """

    def __init__(self, *, server_spans: bool = False) -> None:
        self.server_spans = server_spans
        # Notes by (trace id, span id), as what on_end gets is a copy. Weak, so that a span that never ends is no leak.
        self._live: dict[_Key, tuple[ref[Span], Note]] = {}
        # Garbage collection clears weak references first, and only then ends the spans that nobody holds.
        self._dying: dict[_Key, Note] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note what encloses the span; see `otel_audit.scope.Note`."""
        with edge("AuditSpanProcessor.on_start"):
            note = recognise(span, parent_context, server_spans=self.server_spans)
            if note is not None:
                context = span.get_span_context()
                key = (context.trace_id, context.span_id)
                if _is_now(span.start_time):
                    note.clock_ns = time.perf_counter_ns()
                self._live[key] = ref(span, partial(self._let_go, key)), note
                _pipeline().span_started(note)

    def on_end(self, span: ReadableSpan) -> None:
        """Put the span on the queue. No lock, no I/O."""
        with edge("AuditSpanProcessor.on_end"):
            context = span.get_span_context()
            if context is None:
                return
            key = (context.trace_id, context.span_id)
            _, note = self._live.pop(key, (None, None))
            note = note or self._dying.pop(key, None)
            if note is not None:
                _measure(span, note)
                _pipeline().span_ended(span, note)
            elif span.kind is not SpanKind.SERVER and has_audit_events(span):
                _events_of_ordinary_span(span)

    def _let_go(self, key: _Key, _: object) -> None:
        _, note = self._live.pop(key, (None, None))
        if note is not None:
            self._dying[key] = note
            while len(self._dying) > _MAX_DYING:
                self._dying.pop(next(iter(self._dying)), None)

    def shutdown(self) -> None:
        """Hand over what is queued; the pipeline belongs to the process, not to one provider."""
        with edge("AuditSpanProcessor.shutdown"):
            _pipeline().pump()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait until every record so far is in the audit database; False when ``timeout_millis`` was too short."""
        with edge("AuditSpanProcessor.force_flush"):
            return bool(_pipeline().flush(timeout_millis / 1000) == 0)
        return False


def recognise(span: Span, parent_context: Context | None, *, server_spans: bool) -> Note | None:
    """Attach a `Note` to ``span`` and return it when the span is a record of its own."""
    scope = current_request.get()
    if span.kind is SpanKind.SERVER:
        if scope is not None:
            scope.server_span_started(span)
            return None
        if not server_spans or not conf.enabled:
            return None
        note = Note(KIND_REQUEST, record_id(span.start_time))
        note.request_id = note.record_id
        set_note(span, note)
        return note
    enclosing = note_of(get_current_span(parent_context))
    if enclosing is None:
        enclosing = current_note.get()
    kind = (span.attributes or {}).get(AUDIT_KIND)
    if kind not in (KIND_PROCESS, KIND_STEP):
        if enclosing is not None:
            set_note(span, enclosing)  # an ordinary span in between must not hide the process
        return None
    if not conf.enabled:
        return None
    note = note_for(str(kind), span, enclosing)
    set_note(span, note)
    span.set_attribute(AUDIT_RECORD_ID, note.record_id)  # so that the trace leads to the row
    _lift_event_limit(span)
    return note


def note_for(kind: str, span: Any, enclosing: Note | None) -> Note:
    """Return the note of a process or step span that starts inside ``enclosing``."""
    scope = current_request.get() or (enclosing.scope if enclosing is not None else None)
    attributes = dict(span.attributes or {})
    note = Note(
        kind,
        uuid7(attributes.get(AUDIT_RECORD_ID)) or record_id(span.start_time),
        scope=scope,
        ambient=current_actor.get(),
    )
    note.facts["attributes"] = attributes
    if scope is not None:
        scope.recorded(kind)
    note.request_id = scope.record_id if scope is not None else (enclosing.request_id if enclosing else None)
    if kind == KIND_PROCESS:
        note.process_id = note.record_id
        return note
    note.step_id = note.record_id
    order = attributes.get(AUDIT_STEP_ORDER)
    note.order = order if isinstance(order, int) and not isinstance(order, bool) else None
    if enclosing is not None:
        note.process_id = enclosing.process_id
        note.steps = enclosing.steps
        if note.order is None:
            note.order = next(enclosing.steps)
    if note.process_id is None and (state := span.get_span_context().trace_state):
        # A task whose caller's context came with it: the process began where the task was sent.
        note.process_id = process_in(state.to_header(), span.get_span_context().trace_id)
    return note


def _events_of_ordinary_span(span: ReadableSpan) -> None:
    """Hand over what plain OpenTelemetry code added to a span of its own, or of a library, inside a step or request.

    A span ends in the context of its parent, which knows what encloses both.
    """
    enclosing = note_of(get_current_span()) or current_note.get()
    scope = current_request.get()
    if enclosing is None:
        enclosing = Note("", "", scope=scope, ambient=current_actor.get())
        enclosing.request_id = None if scope is None else scope.record_id
    if scope is not None:
        for event in span.events:
            scope.recorded(event.name)
    _pipeline().events_ended(span, enclosing)


def _measure(span: ReadableSpan, note: Note) -> None:
    """Note the duration by the monotonic clock, unless somebody said that the span began or ended at another time."""
    if note.clock_ns and _is_now(span.end_time):
        note.facts["duration_ms"] = round((time.perf_counter_ns() - note.clock_ns) / 1e6, 3)


def _is_now(time_ns: int | None) -> bool:
    return time_ns is not None and abs(time.time_ns() - time_ns) < _NOW_NS


def _lift_event_limit(span: Span) -> None:
    """Keep every registration: by default the SDK forgets the oldest of more than 128 events.

    The field is private; without it such a span is marked incomplete instead.
    """
    if isinstance(getattr(span, "_events", None), BoundedList):
        span._events = BoundedList(None)


def _pipeline() -> Any:
    from otel_audit_exporters.pipeline import pipeline

    return pipeline
