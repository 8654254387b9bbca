"""The one format between emitters, spool, drain and collectors: versioned JSON, hashed when it is captured.

An envelope is a flat JSON object. Its *core* (``v, type, kind, id, service, ids, span, facts``, keys sorted) is the
captured canonical text: ``hash`` is the SHA-256 of its UTF-8 bytes. ``seal`` puts the provenance (``stream, seq,
observed, hash``) in front. Unix times are nanoseconds as text, as numbers over 2⁵³ do not survive JSON everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Final

from opentelemetry.sdk.trace import EventBase, ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.ids import derived_id
from otel_audit.links import mask_addresses
from otel_audit.redaction import Redactor
from otel_audit.scope import Note, events_of

__all__ = [
    "VERSION",
    "Record",
    "capture",
    "encode_event",
    "encode_events",
    "encode_intent",
    "encode_request",
    "encode_span",
    "has_audit_events",
    "parse",
    "read_event",
    "seal",
]

VERSION: Final = 1
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Record:
    """One captured record: its id, the canonical text and that text's SHA-256 in hex."""

    id: str
    core: bytes
    hash: str


def seal(record: Record, stream: str, seq: int, observed: str) -> bytes:
    """Return the payload of one spool frame: provenance, then the captured text unchanged."""
    prefix = f'{{"stream":"{stream}","seq":{seq},"observed":"{observed}","hash":"{record.hash}",'
    return prefix.encode() + record.core[1:]


def parse(payload: bytes) -> dict[str, Any]:
    """Read the payload of one frame."""
    envelope: dict[str, Any] = json.loads(payload)
    return envelope


def capture(core: Mapping[str, Any]) -> Record:
    """Fix the canonical text of ``core``, whose values are JSON already, and hash it."""
    return _fixed(core.get("id", ""), _encode(core))


def encode_request(span: ReadableSpan, record_id: str, facts: Mapping[str, Any], service: str) -> Record:
    """Return the record of a request whose facts were collected, and redacted, by the guard."""
    ids = {"request": record_id, "process": None, "step": None}
    return _record("span", "request", record_id, service, ids, _span(span), facts)


def encode_intent(
    record_id: str, started_ns: int, facts: Mapping[str, Any], context: SpanContext | None, service: str
) -> Record:
    """Return the record of a request that begins; it becomes a row when nothing more is heard of the request."""
    ids = {"request": record_id, "process": None, "step": None}
    trace_id, span_id = _identity(context)
    span = f'{{"end":"{started_ns}","span_id":"{span_id}","start":"{started_ns}","trace_id":"{trace_id}"}}'
    return _record("intent", "request", record_id, service, ids, span, facts)


def encode_span(span: ReadableSpan, note: Note, service: str, *, ours: bool = True) -> Iterator[Record]:
    """Yield the record of a request, process or step span, then one for each plain audit event on it.

    Args:
        span: the ended span.
        note: what was noted when it started.
        service: name of the service.
        ours: whether this site served a request, so that its routes say what is secret in the address.
    """
    redactor = conf.redactor
    # What was given at the start may have been evicted by a flood of attributes since.
    attributes = {**note.facts.get("attributes", {}), **(span.attributes or {})}
    if ours and span.kind is SpanKind.SERVER:
        attributes = mask_addresses(attributes, redactor)
    known, extra = _split(attributes)
    facts: dict[str, Any] = {**note.facts, "attributes": redactor.value(known)}
    if extra:
        facts["extra"] = {**redactor.value(extra), **(note.facts.get("extra") or {})}
    if "error" not in facts and (error := _exception(span, redactor)):
        facts["error"] = error
    facts["order"] = note.order
    ids = {
        "request": note.request_id,
        "process": note.process_id,
        "step": note.step_id,
    }
    actor = note.actor()
    facts["actor"] = None if actor is None else (actor.id, actor.name, actor.type)
    yield _record("span", note.kind, note.record_id, service, ids, _span(span), facts)
    yield from encode_events(span, note.record_id, ids, facts["actor"], service)


def encode_events(
    span: ReadableSpan,
    owner: str,
    ids: Mapping[str, str | None],
    actor: Sequence[str | None] | None,
    service: str,
) -> Iterator[Record]:
    """Yield a record for each audit event that plain OpenTelemetry code put on ``span``.

    Our helpers' own events carry a record id: they are copies of records that were emitted already.

    Args:
        span: the ended span.
        owner: record id of the span.
        ids: what the events belong to.
        actor: key, name and type of who acts.
        service: name of the service.
    """
    for index, event in enumerate(events_of(span)):
        if not _is_plain_audit_event(event):
            continue
        found = dict(event.attributes or {})
        record_id = derived_id(event.timestamp, owner, str(index))
        kind, facts = read_event(event.name, conf.redactor.value(found))
        facts.update(at=str(event.timestamp), actor=actor)
        yield encode_event(kind, record_id, ids, facts, span.get_span_context(), service)


def read_event(name: str, found: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return kind and facts of an audit event with the redacted attributes ``found``, which are used up."""
    return (_registration if name == keys.EVENT_REGISTRATION else _login)(found)


def has_audit_events(span: ReadableSpan) -> bool:
    """Whether plain OpenTelemetry code put an audit event on ``span``."""
    return any(_is_plain_audit_event(event) for event in events_of(span))


def _is_plain_audit_event(event: EventBase) -> bool:
    if event.name not in (keys.EVENT_REGISTRATION, keys.EVENT_LOGIN):
        return False
    return keys.AUDIT_RECORD_ID not in (event.attributes or {})


def encode_event(
    kind: str,
    record_id: str,
    ids: Mapping[str, str | None],
    facts: Mapping[str, Any],
    context: SpanContext | None,
    service: str,
) -> Record:
    """Return the record of a sign-in or a registration: it belongs to the span of ``context``."""
    trace_id, span_id = _identity(context)
    span = f'{{"span_id":"{span_id}","trace_id":"{trace_id}"}}'
    return _record("event", kind, record_id, service, ids, span, facts)


def _record(
    what: str,
    kind: str,
    record_id: str,
    service: str,
    ids: Mapping[str, str | None],
    span: str,
    facts: Mapping[str, Any],
) -> Record:
    """Return a record; its canonical text is put together, as all but the facts is of a known form."""
    process, request, step = ids["process"], ids["request"], ids["step"]
    return _fixed(
        record_id,
        f'{{"facts":{_encode(facts)},"id":{_quoted(record_id)},'
        f'"ids":{{"process":{_quoted(process) if process else "null"},'
        f'"request":{_quoted(request) if request else "null"},"step":{_quoted(step) if step else "null"}}},'
        f'"kind":"{kind}","service":{_quoted(service)},"span":{span},"type":"{what}","v":{VERSION}}}',
    )


def _fixed(record_id: str, text: str) -> Record:
    core = text.encode("ascii")
    return Record(record_id, core, sha256(core).hexdigest())


def _identity(context: SpanContext | None) -> tuple[str, str]:
    if context is None or not context.is_valid:
        return "", ""
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def _span(span: ReadableSpan) -> str:
    context = span.get_span_context()
    trace_id, span_id = ("", "") if context is None else _identity(context)
    parent = span.parent
    parent_id = f"{parent.span_id:016x}" if parent else ""
    lost = span.dropped_attributes + span.dropped_events
    dropped = f'"dropped":{lost},' if lost else ""
    # The site's sampler leaves the trace out of what is forwarded as such.
    sampled = "" if context is None or context.trace_flags.sampled else '"sampled":false,'
    return (
        f'{{{dropped}"end":"{span.end_time or span.start_time or 0}",'
        f'"name":{_quoted(_masked_name(conf.redactor, span.name))},"parent_span_id":"{parent_id}",'
        f'{sampled}"span_id":"{span_id}","start":"{span.start_time or 0}","status":"{span.status.status_code.name}",'
        f'"trace_id":"{trace_id}"}}'
    )


@lru_cache(maxsize=1024)
def _masked_name(redactor: Redactor, name: str) -> str:
    return redactor.text(name)  # span names are few: routes, processes, steps


#: Attributes of ours and of the HTTP conventions that become columns; every other one is extra information.
_OURS: Final = "audit."
_HTTP: Final = (
    "http.",
    "url.",
    "net.",
    "network.",
    "client.",
    "server.",
    "user_agent.",
    "error.",
    "exception.",
)


def _split(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in attributes.items():
        (known if key.startswith((_OURS, *_HTTP)) else extra)[key] = value
    return known, extra


def _exception(span: ReadableSpan, redactor: Redactor) -> dict[str, str] | None:
    for event in reversed(span.events):
        if event.name == keys.EVENT_EXCEPTION:
            found = event.attributes or {}
            return {
                "type": str(found.get(keys.EXCEPTION_TYPE, "")),
                "message": redactor.value(str(found.get(keys.EXCEPTION_MESSAGE, ""))),
                "stacktrace": redactor.value(str(found.get(keys.EXCEPTION_STACKTRACE, ""))),
            }
    return None


def _registration(found: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "registration", {
        "name": found.pop(keys.AUDIT_REGISTRATION_NAME, ""),
        "success": found.pop(keys.AUDIT_REGISTRATION_SUCCESS, False),
        "description": found.pop(keys.AUDIT_REGISTRATION_DESCRIPTION, ""),
        "extra": found or None,
    }


def _login(found: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "login", {
        "action": found.pop(keys.AUDIT_ACTION, "LOGIN"),
        "outcome": found.pop(keys.AUDIT_OUTCOME, keys.OUTCOME_SUCCESS),
        "method": found.pop(keys.AUDIT_LOGIN_METHOD, ""),
        "user": found.pop(keys.AUDIT_ACTOR_ID, None),
        "extra": found or None,
    }
