"""The spans of one OTLP request → records, the same each time they come.

A record is told apart by `audit.record.id`, or where the sender gives none by service, trace, span and place in the
span. So a request that is sent again, to whichever receiver, makes the same records. Nothing is remembered between two
requests: what encloses a span is what it says, else looked for among those that came with it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import EventBase
from opentelemetry.trace import SpanKind

from otel_audit import attributes as keys
from otel_audit.ids import derived_id, uuid7
from otel_audit.scope import Actor, Note
from otel_audit.trace_member import process_in
from otel_audit_exporters.envelope import Record, encode_event, encode_span
from otel_audit_exporters.otlp_requests import UnacceptableError
from otel_audit_exporters.received_facts import event_facts, given_id, span_facts, take_actor
from otel_audit_exporters.received_spans import ReceivedSpan, read_attributes, read_span

__all__ = ["records_of"]

KIND_REQUEST: Final = "request"
#: Sign-ins and registrations that come as spans of their own, as our own forwarding sends them.
_EVENT_SPANS: Final = {"login": keys.EVENT_LOGIN, "registration": keys.EVENT_REGISTRATION}
_EVENTS: Final = frozenset(_EVENT_SPANS.values())
_KINDS: Final = frozenset({KIND_REQUEST, keys.KIND_PROCESS, keys.KIND_STEP, *_EVENT_SPANS})
_ENCLOSING: Final = {
    KIND_REQUEST: keys.AUDIT_REQUEST_ID,
    keys.KIND_PROCESS: keys.AUDIT_PROCESS_ID,
    keys.KIND_STEP: keys.AUDIT_STEP_ID,
}
#: 1 January 2000: a clock that says less was never set.
_EARLIEST_NS: Final = 946_684_800_000_000_000
#: How far the sender's clock may be ahead.
_AHEAD_NS: Final = 3_600_000_000_000
#: Ordinary spans between a step and its process; a longer way, or a ring, leads nowhere.
_MAX_WAY: Final = 64

_Key = tuple[int, int]
_Ids = dict[str, str | None]


def records_of(request: ExportTraceServiceRequest, service: str) -> tuple[list[Record], int]:
    """Return the records of a request, redacted, in the order of its spans, and how many spans it has.

    Args:
        request: the request; its ordinary spans make no record.
        service: the one that the sender may speak for.

    Raises:
        UnacceptableError: it speaks for another service, a span cannot be read, or a record has two contents.
    """
    spans: list[ReceivedSpan] = []
    for resource_spans in request.resource_spans:
        _check_service(read_attributes(resource_spans.resource.attributes), service)
        spans += [read_span(span) for scope_spans in resource_spans.scope_spans for span in scope_spans.spans]
    batch = _Batch(spans, service)
    records: dict[str, Record] = {}
    for node in batch.nodes:
        for record in batch.records(node):
            if records.setdefault(record.id, record).hash != record.hash:
                raise UnacceptableError(409, "Two records of the request have the same id and different contents.")
    return list(records.values()), len(spans)


def _check_service(resource: Mapping[str, Any], service: str) -> None:
    claimed = resource.get(keys.SERVICE_NAME)
    if claimed and claimed != service and not str(claimed).startswith(keys.SERVICE_UNKNOWN):
        raise UnacceptableError(403, "The token is of another service than the service.name of the resource.")


class _Node:
    """A span among those that came together: what it is, and what it is called as a record."""

    __slots__ = ("id", "kind", "order", "parent", "parent_is_remote", "span")

    def __init__(self, span: ReceivedSpan, service: str) -> None:
        self.span = span
        self.kind = _kind(span)
        self.id = "" if self.kind is None else _record_id(span, self.kind, service)
        self.order: int | None = None
        parent = span.parent
        self.parent = None if parent is None else (parent.trace_id, parent.span_id)
        self.parent_is_remote = parent is not None and parent.is_remote


class _Batch:
    """The spans that came together."""

    def __init__(self, spans: list[ReceivedSpan], service: str) -> None:
        self._service = service
        self.nodes = [_Node(span, service) for span in spans]
        self._by_key = {_key(node.span): node for node in reversed(self.nodes)}
        self._number_steps()

    def records(self, node: _Node) -> Iterator[Record]:
        """Yield the records of one span."""
        span = node.span
        events = [(index, event) for index, event in enumerate(span.events) if event.name in _EVENTS]
        if (node.kind is None and not events) or span.attributes.get(keys.AUDIT_RECEIVER) is True:
            return
        attributes = dict(span.attributes)
        ids = self._enclosing(node, attributes)
        actor = take_actor(attributes, signs_in=node.kind == "login")
        if node.kind in _EVENT_SPANS:
            yield self._event_span(_EVENT_SPANS[node.kind], node.id, span, attributes, ids, actor)
        elif node.kind is not None:
            yield self._span(node, attributes, ids, actor)
        for index, event in events:
            yield self._event(span, index, event, ids, actor)

    def _span(self, node: _Node, attributes: dict[str, Any], ids: _Ids, actor: Actor | None) -> Record:
        _check_time(node.span.start_time)
        note = Note(str(node.kind), node.id, order=node.order, ambient=actor)
        note.request_id, note.process_id, note.step_id = (ids[kind] for kind in _ENCLOSING)
        note.facts = span_facts(attributes, is_request=node.kind == KIND_REQUEST)
        # Its audit events are encoded one by one, as each may have been given an id.
        return next(encode_span(node.span.bare(attributes, _EVENTS), note, self._service, ours=False))

    def _event_span(
        self, name: str, identity: str, span: ReceivedSpan, attributes: dict[str, Any], ids: _Ids, actor: Actor | None
    ) -> Record:
        at = _check_time(span.start_time)
        kind, facts = event_facts(name, attributes, at, actor)
        return encode_event(kind, identity, ids, facts, span.parent or span.get_span_context(), self._service)

    def _event(self, span: ReceivedSpan, index: int, event: EventBase, ids: _Ids, actor: Actor | None) -> Record:
        at = _check_time(event.timestamp)
        attributes = dict(event.attributes or {})
        identity = given_id(attributes, at, self._service)
        identity = identity or derived_id(at, self._service, *_written(_key(span)), str(index))
        kind, facts = event_facts(
            event.name, attributes, at, take_actor(attributes, signs_in=event.name == keys.EVENT_LOGIN) or actor
        )
        return encode_event(kind, identity, ids, facts, span.get_span_context(), self._service)

    def _enclosing(self, node: _Node, attributes: Mapping[str, Any]) -> _Ids:
        """Return the ids of request, process and step: what the span itself is, what it says, what is around it."""
        ids: _Ids = {kind: uuid7(attributes.get(key)) for kind, key in _ENCLOSING.items()}
        if node.kind in ids:
            ids[str(node.kind)] = node.id
        said = self._in_trace_state(node) if ids[keys.KIND_PROCESS] is None else None
        at, way = node, 0
        while at.parent is not None and way < _MAX_WAY:
            above = self._by_key.get(at.parent)
            if above is None:
                if node.kind == keys.KIND_STEP and not said and not at.parent_is_remote:
                    ids[keys.KIND_PROCESS] = ids[keys.KIND_PROCESS] or _process_id(self._service, at.parent)
                break
            kind = above.kind
            if kind in ids and ids[kind] is None and not (kind == keys.KIND_STEP and node.kind in ids):
                ids[kind] = above.id
            if kind == KIND_REQUEST:
                break  # what stands above is another service
            at, way = above, way + 1
        ids[keys.KIND_PROCESS] = ids[keys.KIND_PROCESS] or said
        return ids

    @staticmethod
    def _in_trace_state(node: _Node) -> str | None:
        """Return the process of a step that began in another service, whose id the SDK of this one has handed down."""
        if node.kind != keys.KIND_STEP:
            return None
        return process_in(node.span.trace_state, node.span.get_span_context().trace_id)

    def _number_steps(self) -> None:
        """Number the steps that do not say their order, by the time they began, where their process is here, too."""
        counters: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
        here = {node.id for node in self.nodes if node.kind == keys.KIND_PROCESS}
        steps = [node for node in self.nodes if node.kind == keys.KIND_STEP]
        for node in sorted(steps, key=lambda node: node.span.start_time or 0):
            said = node.span.attributes.get(keys.AUDIT_STEP_ORDER)
            process = self._enclosing(node, node.span.attributes)[keys.KIND_PROCESS]
            if isinstance(said, int) and not isinstance(said, bool):
                node.order = said
            elif process in here:
                node.order = next(counters[str(process)])


def _kind(span: ReceivedSpan) -> str | None:
    kind = span.attributes.get(keys.AUDIT_KIND)
    if isinstance(kind, str) and kind in _KINDS:
        return kind
    return KIND_REQUEST if span.kind is SpanKind.SERVER else None


def _record_id(span: ReceivedSpan, kind: str, service: str) -> str:
    start = span.start_time or 0
    if given := given_id(span.attributes, start, service):
        return given
    key = _key(span)
    return _process_id(service, key) if kind == keys.KIND_PROCESS else derived_id(start, service, *_written(key))


def _process_id(service: str, key: _Key) -> str:
    """Return the id of a process without one. Its steps come before it and do not know when it began: no time in it."""
    return derived_id(0, service, *_written(key))


def _key(span: ReceivedSpan) -> _Key:
    context = span.get_span_context()
    return context.trace_id, context.span_id


def _written(key: _Key) -> tuple[str, str]:
    return f"{key[0]:032x}", f"{key[1]:016x}"


def _check_time(time_ns: int | None) -> int:
    """Return the time of a record. One with an impossible time would stand first, or last, in every list for ever."""
    if not _EARLIEST_NS <= (time_ns or 0) <= time.time_ns() + _AHEAD_NS:
        raise UnacceptableError(400, "A record began before the year 2000, or more than an hour from now.")
    return int(time_ns or 0)
