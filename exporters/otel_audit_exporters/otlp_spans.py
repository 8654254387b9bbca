"""Envelope → OTLP span: what a collector gets of a record, at each level. Pure, but for the key of a hash.

``trace`` says what a trace says: names, standard attributes, a hash in place of who acted. ``audit`` adds the audit
attributes, and sends sign-ins and registrations, each as a span of its own with an id made from its record's, as a
span that has gone out cannot be given an event any more. ``full`` adds what travels beside the span. Everything was
redacted when it was captured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from otel_audit import attributes as keys
from otel_audit.exceptions import OTelAuditError
from otel_audit.keyed import actor_hash
from otel_audit.options import OTLP_LEVELS
from otel_audit.text import storable
from otel_audit_exporters.envelope import VERSION
from otel_audit_exporters.mapper import request_action, request_outcome
from otel_audit_exporters.otlp import resource_attributes

__all__ = ["AUDIT", "FULL", "OWN_EXTRA", "TRACE", "as_request", "as_span"]

TRACE, AUDIT, FULL = OTLP_LEVELS

#: Keys of ours that stand in ``extra_informations`` begin with one of these.
OWN_EXTRA: Final = ("audit.untrusted.", "audit.impersonator.", "audit.refresh.")
#: What a process or step span may carry although it belongs beside it; whole URLs have a query.
_BESIDE: Final = ("exception.", "client.", "network.peer.", "net.peer.", "url.query", "url.full", "http.url")
_BESIDE_OLD: Final = (keys.OLD_HTTP_TARGET, keys.OLD_HTTP_CLIENT_IP)
#: Of the process that drains, not of the one that recorded.
_OF_ONE_PROCESS: Final = ("process.", "service.instance.id", "service.name", "telemetry.")
_STATUS: Final = {"UNSET": 0, "OK": 1, "ERROR": 2}
_IDS: Final = {"request": keys.AUDIT_REQUEST_ID, "process": keys.AUDIT_PROCESS_ID, "step": keys.AUDIT_STEP_ID}
#: Their values are few: making the same attribute for each span anew is a fifth of what forwarding costs.
_REPEATED: Final = frozenset(
    {
        keys.HTTP_REQUEST_METHOD,
        keys.HTTP_ROUTE,
        keys.HTTP_RESPONSE_STATUS_CODE,
        keys.URL_SCHEME,
        keys.USER_AGENT_ORIGINAL,
        keys.USER_HASH,
        keys.AUDIT_KIND,
        keys.AUDIT_ACTION,
        keys.AUDIT_OUTCOME,
        keys.AUDIT_ACTOR_TYPE,
        keys.AUDIT_SCHEMA_VERSION,
        keys.AUDIT_TARGET_TYPE,
    }
)
_INT8: Final = 2**63
_SAMPLED: Final = 1
#: What is nested deeper is sent as JSON: protobuf's readers refuse 100 levels, and each here is three of theirs.
_MAX_DEPTH: Final = 20


def as_span(envelope: Mapping[str, Any], level: str) -> Span | None:
    """Return the span of a record; None where ``level`` has none for it, or the site's sampler left its trace out.

    Raises:
        OTelAuditError: the envelope is of a version that is not known here.
        KeyError: it is not complete.
    """
    if envelope["v"] != VERSION:
        raise OTelAuditError(f"an envelope has the version {envelope['v']!r}; known is {VERSION}.")
    span = envelope["span"]
    if level == TRACE and (envelope["type"] == "event" or not span["trace_id"] or span.get("sampled") is False):
        return None
    trace_id, span_id, parent_span_id = _identity(envelope)
    start, end = _times(envelope)
    attributes = {key: value for key, value in _attributes(envelope, level).items() if value not in (None, "")}
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent_span_id,
        name=_name(envelope),
        kind=Span.SPAN_KIND_SERVER if envelope["kind"] == "request" else Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=start,
        end_time_unix_nano=max(start, end),
        status=Status(code=_STATUS.get(span.get("status", "UNSET"), 0)),  # type: ignore[arg-type]  # an enum's number
        attributes=[
            _repeated(key, value) if key in _REPEATED else _key_value(key, value) for key, value in attributes.items()
        ],
        dropped_attributes_count=span.get("dropped", 0),
        flags=_SAMPLED,
    )


def as_request(spans: Iterable[tuple[str, Span]]) -> ExportTraceServiceRequest:
    """Return the request for spans, each with the name of its service."""
    by_service: dict[str, list[Span]] = {}
    for service, span in spans:
        by_service.setdefault(service, []).append(span)
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=ResourceMessage(attributes=_resource(service)),
                scope_spans=[ScopeSpans(scope=InstrumentationScope(name="otel_audit"), spans=found)],
            )
            for service, found in by_service.items()
        ]
    )


def _identity(envelope: Mapping[str, Any]) -> tuple[bytes, bytes, bytes]:
    """Return trace, span and parent. A sign-in or registration gets a span id of its own, the same each time."""
    span, own = envelope["span"], envelope["id"].replace("-", "")
    trace_id = span["trace_id"] or own
    span_id, parent = span["span_id"], span.get("parent_span_id", "")
    if envelope["type"] == "event" or not span_id:
        span_id, parent = own[16:], span_id
    return bytes.fromhex(trace_id), bytes.fromhex(span_id), bytes.fromhex(parent)


def _times(envelope: Mapping[str, Any]) -> tuple[int, int]:
    if envelope["type"] == "event":
        at = int(envelope["facts"]["at"])
        return at, at
    return int(envelope["span"]["start"]), int(envelope["span"]["end"])


def _name(envelope: Mapping[str, Any]) -> str:
    kind, facts = envelope["kind"], envelope["facts"]
    if envelope["type"] == "event":
        return keys.EVENT_LOGIN if kind == "login" else keys.EVENT_REGISTRATION
    if envelope["type"] == "intent":
        return storable(f"{facts.get('method') or ''} {facts.get('route') or ''}".strip())
    return storable(envelope["span"]["name"])


def _attributes(envelope: Mapping[str, Any], level: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if level == FULL:
        found.update(_extra(envelope["facts"]))  # first: it takes no other attribute's place
    found.update(_standard(envelope))
    actor = envelope["facts"].get("actor")
    if level == TRACE:
        found[keys.USER_HASH] = actor_hash(str(actor[0])) if actor and actor[0] is not None else None
        found[keys.AUDIT_RECORD_ID] = envelope["id"]
        return found
    found.update(_audit(envelope, actor))
    if level == FULL:
        found.update(_beside(envelope, actor))
    return found


def _standard(envelope: Mapping[str, Any]) -> dict[str, Any]:
    facts = envelope["facts"]
    known = {
        key: value
        for key, value in (facts.get("attributes") or {}).items()
        if not key.startswith(("audit.", *_BESIDE)) and key not in _BESIDE_OLD
    }
    known[keys.SESSION_ID] = facts.get("session_id")
    error, status = facts.get("error") or {}, facts.get("status")
    if envelope["kind"] != "request":
        return {**known, keys.ERROR_TYPE: error.get("type") or known.get(keys.ERROR_TYPE)}
    return {
        **known,
        keys.HTTP_REQUEST_METHOD: facts.get("method"),
        keys.URL_PATH: facts.get("url"),
        keys.URL_SCHEME: facts.get("scheme"),
        keys.HTTP_ROUTE: facts.get("route"),
        keys.USER_AGENT_ORIGINAL: facts.get("user_agent"),
        keys.HTTP_RESPONSE_STATUS_CODE: status,
        keys.HTTP_REQUEST_BODY_SIZE: facts.get("request_size"),
        keys.HTTP_RESPONSE_BODY_SIZE: facts.get("response_size"),
        keys.ERROR_TYPE: error.get("type") or (str(status) if status is not None and status >= 500 else None),
    }


def _audit(envelope: Mapping[str, Any], actor: Any) -> dict[str, Any]:
    facts, kind, ids = envelope["facts"], envelope["kind"], envelope.get("ids") or {}
    own = {key: value for key, value in (facts.get("attributes") or {}).items() if key.startswith("audit.")}
    action, outcome = _action_and_outcome(envelope, own)
    found = {
        **own,
        keys.AUDIT_KIND: kind,
        keys.AUDIT_RECORD_ID: envelope["id"],
        keys.AUDIT_SCHEMA_VERSION: str(envelope["v"]),
        keys.AUDIT_ACTION: action,
        keys.AUDIT_OUTCOME: outcome,
        **_actor(facts, actor, in_request=bool(ids.get("request"))),
    }
    found |= {key: ids.get(name) for name, key in _IDS.items()}
    if kind == "request":
        found |= {keys.AUDIT_TARGET_ID: facts.get("url"), keys.AUDIT_TARGET_TYPE: "http.endpoint"}
    elif kind == "step":
        found.setdefault(keys.AUDIT_STEP_ORDER, facts.get("order"))
    elif kind == "registration":
        found |= {
            keys.AUDIT_REGISTRATION_NAME: facts.get("name"),
            keys.AUDIT_REGISTRATION_SUCCESS: facts.get("success") is True,
            keys.AUDIT_REGISTRATION_DESCRIPTION: facts.get("description"),
        }
    elif kind == "login":
        found[keys.AUDIT_LOGIN_METHOD] = facts.get("method")
    return found


def _action_and_outcome(envelope: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[str, str]:
    facts, kind = envelope["facts"], envelope["kind"]
    if kind == "request":
        action, outcome = request_action(facts.get("method") or ""), request_outcome(facts.get("status"))
    elif kind == "login":
        action, outcome = "LOGIN", keys.OUTCOME_SUCCESS
    else:
        failed = facts.get("success") is not True if kind == "registration" else envelope["span"]["status"] == "ERROR"
        action, outcome = "EXECUTE", keys.OUTCOME_FAILURE if failed else keys.OUTCOME_SUCCESS
    return (
        facts.get("action") or own.get(keys.AUDIT_ACTION) or action,
        facts.get("outcome") or own.get(keys.AUDIT_OUTCOME) or outcome,
    )


def _actor(facts: Mapping[str, Any], actor: Any, *, in_request: bool) -> dict[str, Any]:
    """Return who acted; a record always names somebody, if only ``anonymous`` or ``unknown``."""
    if not actor:
        user = facts.get("user")
        kind = keys.ACTOR_USER if user or in_request else keys.ACTOR_SYSTEM
        return {keys.AUDIT_ACTOR_ID: user or keys.ACTOR_UNKNOWN, keys.AUDIT_ACTOR_TYPE: kind}
    key, name, kind = actor
    # Without a key it is nobody, or a service that goes by its name alone.
    return {keys.AUDIT_ACTOR_ID: key if key is not None else name, keys.AUDIT_ACTOR_TYPE: kind}


def _beside(envelope: Mapping[str, Any], actor: Any) -> dict[str, Any]:
    facts = envelope["facts"]
    error = facts.get("error") or {}
    return {
        keys.CLIENT_ADDRESS: facts.get("address"),
        keys.URL_QUERY: facts.get("query"),
        keys.AUDIT_REQUEST_BODY: facts.get("request_body"),
        keys.AUDIT_RESPONSE_BODY: facts.get("response_body"),
        keys.EXCEPTION_TYPE: error.get("type"),
        keys.EXCEPTION_MESSAGE: error.get("message"),
        keys.EXCEPTION_STACKTRACE: error.get("stacktrace"),
        keys.USER_NAME: facts.get("username") or (actor[1] if actor else None),
        keys.AUDIT_LOGIN_REASON: facts.get("reason"),
        keys.AUDIT_CHANGED: facts.get("changed"),
    }


def _extra(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    extra = facts.get("extra")
    if isinstance(extra, Mapping):
        yield from ((str(key), value) for key, value in extra.items() if _may_be_extra(str(key)))
    elif extra is not None:
        yield "extra_informations", extra


def _may_be_extra(key: str) -> bool:
    return not key.startswith("audit.") or key.startswith(OWN_EXTRA)


def _key_value(key: str, value: Any) -> KeyValue:
    return KeyValue(key=storable(key), value=_value(value))


_repeated = lru_cache(maxsize=4096, typed=True)(_key_value)


def _value(value: Any, depth: int = 0) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -_INT8 <= value < _INT8 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=storable(value))
    if value is None:
        return AnyValue()
    return _nested(value, depth) if depth < _MAX_DEPTH else AnyValue(string_value=_as_json(value))


def _nested(value: Any, depth: int) -> AnyValue:
    if isinstance(value, list | tuple):
        return AnyValue(array_value=ArrayValue(values=[_value(item, depth + 1) for item in value]))
    if isinstance(value, dict):
        found = [KeyValue(key=storable(str(key)), value=_value(item, depth + 1)) for key, item in value.items()]
        return AnyValue(kvlist_value=KeyValueList(values=found))
    return AnyValue(string_value=_as_json(value))


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True)


@lru_cache(maxsize=32)
def _resource(service: str) -> list[KeyValue]:
    """Return what describes a service; of the machine and its deployment, what the environment of this process says."""
    found = {key: value for key, value in resource_attributes().items() if not key.startswith(_OF_ONE_PROCESS)}
    found[keys.SERVICE_NAME] = service
    return [KeyValue(key=key, value=_value(value)) for key, value in found.items()]
