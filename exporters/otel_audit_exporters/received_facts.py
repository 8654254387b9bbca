"""What the attributes of a received span say, as facts of a record: redacted here, like what is captured here.

The reverse of what forwarding puts into attributes. What becomes a column is taken out of them, the rest is kept as
extra information.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.ids import derived_id, uuid7
from otel_audit.keyed import is_fingerprint
from otel_audit.scope import Actor
from otel_audit_exporters.envelope import read_event
from otel_audit_exporters.otlp_spans import OWN_EXTRA

__all__ = ["event_facts", "given_id", "span_facts", "take_actor"]

#: As what a record names nobody.
_NOBODY: Final = ("anonymous", "unknown")
_BODIES: Final = {"request_body": keys.AUDIT_REQUEST_BODY, "response_body": keys.AUDIT_RESPONSE_BODY}
_SIZES: Final = {"request_size": keys.HTTP_REQUEST_BODY_SIZE, "response_size": keys.HTTP_RESPONSE_BODY_SIZE}
_ERROR: Final = {
    "type": keys.EXCEPTION_TYPE,
    "message": keys.EXCEPTION_MESSAGE,
    "stacktrace": keys.EXCEPTION_STACKTRACE,
}
_JSON_STARTS: Final = ("{", "[")


def given_id(attributes: Mapping[str, Any], time_ns: int, service: str) -> str | None:
    """Return the id that the sender gave the record; another form than ours becomes ours, the same each time."""
    given = attributes.get(keys.AUDIT_RECORD_ID)
    if not isinstance(given, str) or not given:
        return None
    return uuid7(given) or derived_id(time_ns, service, "given", given)


def take_actor(attributes: dict[str, Any], *, signs_in: bool = False) -> Actor | None:
    """Take who acted out of ``attributes``; None where they do not say. Of who failed to sign in, the name stays."""
    identity = attributes.pop(keys.AUDIT_ACTOR_ID, None)
    other = attributes.pop(keys.USER_ID, None)
    identity = other if identity is None else identity
    name = None if signs_in and identity in _NOBODY else attributes.pop(keys.USER_NAME, None)
    kind = attributes.pop(keys.AUDIT_ACTOR_TYPE, None)
    if identity is None and name is None:
        return None
    identity, name = _text(identity), _text(name)
    kind = _text(kind) or keys.ACTOR_USER
    # Nobody, or a service that goes by its name alone.
    if identity in _NOBODY or (kind != keys.ACTOR_USER and identity == name):
        return Actor(None, name or identity or "", kind)
    return Actor(identity, name or identity or "", kind)


def span_facts(attributes: dict[str, Any], *, is_request: bool) -> dict[str, Any]:
    """Take what is no column by its own name out of the attributes of a request, process or step."""
    facts: dict[str, Any] = {}
    if any(key in attributes for key in _ERROR.values()):
        facts["error"] = {name: _text(attributes.pop(key, "")) for name, key in _ERROR.items()}
    if (changed := _changed(attributes)) is not None:
        facts["changed"] = changed
    if own := _own_extra(attributes):
        facts["extra"] = own
    if not is_request:
        return facts
    facts["session_id"] = _session(attributes)
    facts |= {name: _body(attributes.pop(key, None)) for name, key in _BODIES.items()}
    facts |= {name: conf.redactor.value(attributes.pop(key, None)) for name, key in _SIZES.items()}
    facts["action"] = _text(attributes.get(keys.AUDIT_ACTION))
    facts["outcome"] = _text(attributes.get(keys.AUDIT_OUTCOME))
    return facts


def event_facts(name: str, attributes: dict[str, Any], at_ns: int, actor: Actor | None) -> tuple[str, dict[str, Any]]:
    """Return kind and facts of a sign-in or registration; ``attributes`` are used up, who acted is taken already."""
    changed = _changed(attributes)
    reason = _text(attributes.pop(keys.AUDIT_LOGIN_REASON, None))
    own, session = _own_extra(attributes), _session(attributes)
    attempted = _text(attributes.pop(keys.USER_NAME, None)) if name == keys.EVENT_LOGIN else None
    kind, facts = read_event(name, conf.redactor.value(attributes))
    extra = {key: value for key, value in (facts["extra"] or {}).items() if not key.startswith("audit.")}
    facts["extra"] = {**extra, **own} or None
    if kind == "login":
        known = actor.name if actor is not None and actor.name not in (actor.id, *_NOBODY) else ""
        facts["user"] = None if actor is None else actor.id
        facts["username"] = attempted or known
        facts["reason"] = reason
        facts["session_id"] = session
    if changed is not None:
        facts["changed"] = changed
    facts.update(at=str(at_ns), actor=None if actor is None else (actor.id, actor.name, actor.type))
    return kind, facts


def _changed(attributes: dict[str, Any]) -> list[str] | None:
    found = attributes.pop(keys.AUDIT_CHANGED, None)
    return [str(_text(item)) for item in found] if isinstance(found, list) and found else None


def _own_extra(attributes: dict[str, Any]) -> dict[str, Any]:
    found = {key: attributes.pop(key) for key in list(attributes) if key.startswith(OWN_EXTRA)}
    return dict(conf.redactor.value(found))


def _session(attributes: dict[str, Any]) -> str | None:
    """Take the fingerprint of a session; of what another program calls so, it may be the key itself."""
    found = attributes.get(keys.SESSION_ID)
    return str(attributes.pop(keys.SESSION_ID)) if is_fingerprint(found) else None


def _body(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    kind = "application/json" if text.lstrip()[:1] in _JSON_STARTS else ""
    raw = text.encode("utf-8", "replace")
    return conf.redactor.body(raw, kind, total_size=len(raw), sha256=None, truncated=False).text


def _text(value: Any) -> str | None:
    return None if value is None else str(conf.redactor.value(value))
