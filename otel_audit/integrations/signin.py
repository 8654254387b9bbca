"""One sign-in, sign-out or failed attempt: a span event on the request's span and one record beside it.

Several hooks may see the same success (Django's signal, a token view's wrap, a token made for a user): within a
request the first one makes the record and later ones complete it. Each failure is an event of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponseBase
from opentelemetry import trace

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.delivery import delivery
from otel_audit.edges import caught, edge
from otel_audit.ids import record_id
from otel_audit.integrations.identity import identify
from otel_audit.own_facts import add_own
from otel_audit.request_scope import (
    ANONYMOUS,
    META_LOGIN,
    META_REQUEST,
    RequestScope,
    described,
    scope_of,
    status_of,
)
from otel_audit.scope import current_actor

__all__ = [
    "LOGIN",
    "LOGOUT",
    "REAUTHENTICATE",
    "REFRESH",
    "VERIFY",
    "Issued",
    "Subject",
    "acts_as",
    "attempted_name",
    "conclude",
    "record",
]

LOGIN: Final = "LOGIN"
LOGOUT: Final = "LOGOUT"
REFRESH: Final = "REFRESH"
VERIFY: Final = "VERIFY"
REAUTHENTICATE: Final = "REAUTHENTICATE"

#: The ancestor's statuses that a view may write into ``request.META["drf_login_audit_event"]``.
_STATUS_ACTIONS: Final = {
    "Sign in": (LOGIN, keys.OUTCOME_SUCCESS),
    "Sign out": (LOGOUT, keys.OUTCOME_SUCCESS),
    "Failed": (LOGIN, keys.OUTCOME_FAILURE),
}
#: What users do themselves; anything else is done by whoever the request, or the script, acts as.
_OWN_ACTIONS: Final = frozenset({LOGIN, LOGOUT, REFRESH})
#: Where clients put the name of an account; the user model's own field is looked at first.
_NAME_FIELDS: Final = ("username", "email", "login", "phone")
#: Characters that are kept of a name; the column holds fewer and its mark says that it was cut.
_NAME_LIMIT: Final = 1024
#: Bytes of a JSON body that are parsed for the attempted name.
_BODY_LIMIT: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a verified token was issued to: its key, and the name where a claim says it; no query was made for it."""

    pk: str
    name: str = ""
    is_authenticated: bool = True

    def get_username(self) -> str:
        """Return the name."""
        return self.name


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was made inside a view that is no token view: whether the client gets it, its answer says.

    ``trail`` returns, when the view has answered, what ties the event to others.
    """

    action: str
    user: Any
    method: str
    trail: Callable[[], Mapping[str, str]]


def record(
    request: Any,
    action: str,
    outcome: str,
    *,
    user: Any = None,
    username: Any = "",
    method: str = "",
    reason: str = "",
    own: Mapping[str, str] | None = None,
    **extra: Any,
) -> dict[str, Any] | None:
    """Record one sign-in event.

    Args:
        request: the Django or DRF request, or None outside one.
        action: `LOGIN`, `LOGOUT`, `REFRESH` or another upper-case verb.
        outcome: ``"success"`` or ``"failure"``; what the event was, not what the user object says.
        user: the user object that the event is about, or a `Subject`; None where it is not known.
        username: the name that was attempted, whatever the client sent as such.
        method: how: ``"session"``, ``"simplejwt"``, ``"drf-token"``, …
        reason: why it failed.
        own: facts by keys of `otel_audit.attributes`: what ties the event to others.
        extra: further facts for ``extra_informations``.

    Returns:
        The facts of the event, of the earlier one where this completes it; None when nothing is recorded.
    """
    if not conf.enabled:
        return None
    with edge("signin.record"):
        facts = _facts(action, outcome, user, username, method, reason, extra)
        if own:
            add_own(facts, own)
        scope = scope_of(request) if request is not None else None
        if scope is None or scope.finished:
            _emit_alone(scope, facts)
            return facts
        known = _known(scope, facts)
        if known is None:
            _add(scope, facts)
            return facts
        for key, value in facts.items():
            if value and not known.get(key):
                known[key] = value
        if own:
            add_own(known, own)
        return known
    return None


def acts_as(scope: RequestScope | None, user: Any) -> None:
    """Let ``user`` be the actor of the request, unless authentication has found one."""
    if scope is not None and user is not None:
        actor = scope.actor()
        if actor is None or actor.id is None:
            scope.acting_user = user


def attempted_name(data: Any, *fields: str) -> Any:
    """Return what a client sent as the name of an account, or "" where there is none.

    Args:
        data: a parsed body or the credentials of ``authenticate()``; anything but a mapping has no name.
        fields: where to look first.
    """
    if isinstance(data, Mapping):
        for field in (*fields, _username_field(), *_NAME_FIELDS):
            if data.get(field) not in (None, ""):
                return data[field]
    return ""


def conclude(scope: RequestScope, response: HttpResponseBase | None) -> None:
    """Add what only the end of a request tells: tokens that were issued, what the view or its URL says, the actor."""
    if response is not None:
        before = scope.acting_user
        if scope.issued:
            _conclude_issued(scope, response)
        _from_meta(scope, response)
        if scope.acting_user is not before:
            scope.settle_actor()
    try:
        identify(scope)
    except Exception:
        caught("signin.identify")
    if scope.logins and (actor := scope.actor()) is not None:
        for _, facts in scope.logins:
            facts.setdefault("actor", (actor.id, actor.name, actor.type))


def _conclude_issued(scope: RequestScope, response: HttpResponseBase) -> None:
    succeeded = (status_of(response) or 500) < 400
    for issued in scope.issued:
        if succeeded:
            acts_as(scope, issued.user)
        record(
            scope.request,
            issued.action,
            keys.OUTCOME_SUCCESS if succeeded else keys.OUTCOME_FAILURE,
            user=issued.user,
            method=issued.method,
            reason="" if succeeded else f"refused with status {response.status_code}",
            own=issued.trail() if succeeded else None,
        )


def _from_meta(scope: RequestScope, response: HttpResponseBase) -> None:
    """Record what a view said in ``request.META`` or what the status of one of ``AUTH_URLS`` says, if no hook did."""
    meta = scope.meta
    if not (scope.method == "POST" or meta.get(META_REQUEST) or meta.get(META_LOGIN)):
        return
    user = _written(meta, META_REQUEST, "user")
    if user is not None:
        user = user if hasattr(user, "is_authenticated") else None
        acts_as(scope, user)
    status = _written(meta, META_LOGIN, "status")
    if status is not None:
        action, outcome = _STATUS_ACTIONS.get(str(status), (str(status).upper(), keys.OUTCOME_SUCCESS))
    elif scope.method == "POST" and scope.path in conf.now().AUTH_URLS:
        scope.metadata_only = True
        failed = response.status_code in conf.auth_failed_status_codes
        if not failed and (status_of(response) or 500) >= 400:
            return
        action, outcome = LOGIN, keys.OUTCOME_FAILURE if failed else keys.OUTCOME_SUCCESS
    else:
        return
    if any(facts["action"] == action and facts["outcome"] == outcome for _, facts in scope.logins):
        return
    name = _read_name(scope) if user is None else ""
    record(scope.request, action, outcome, user=user, username=name, method="view")


def _written(meta: Mapping[str, Any], place: str, key: str) -> Any:
    written = meta.get(place)
    return written.get(key) if isinstance(written, Mapping) else None


def _read_name(scope: RequestScope) -> Any:
    """Return the attempted name from a body that the view has read; what it never read is not read here."""
    read = vars(scope.request)
    if "_post" in read and (name := attempted_name(read["_post"])):
        return name
    body = read.get("_body", b"")
    if not scope.content_type.startswith("application/json") or len(body) > _BODY_LIMIT:
        return ""
    try:
        return attempted_name(json.loads(body))
    except (ValueError, RecursionError):
        return ""


def _username_field() -> str:
    try:
        return str(get_user_model().USERNAME_FIELD)
    except ImproperlyConfigured:  # the site has no user model
        return "username"


def _facts(
    action: str, outcome: str, user: Any, username: Any, method: str, reason: str, extra: dict[str, Any]
) -> dict[str, Any]:
    redactor = conf.redactor
    who = described(user) or ANONYMOUS
    named = who is not ANONYMOUS
    facts: dict[str, Any] = {
        "at": str(time.time_ns()),
        "action": action,
        "outcome": outcome,
        "user": who.id,
        "username": _name(username or (who.name if named else "")),
        "method": method,
        "reason": redactor.text(str(reason)),
    }
    if who.id is not None and outcome == keys.OUTCOME_SUCCESS and action in _OWN_ACTIONS:
        facts["actor"] = (who.id, who.name, who.type)
    if extra:
        facts["extra"] = redactor.value(extra)
    return facts


def _name(value: Any) -> str:
    """Return a name as text: a client may send anything in its place, and may mistake it for another field."""
    if isinstance(value, str):
        return conf.redactor.text(value[:_NAME_LIMIT])
    return str(conf.redactor.value(value))[:_NAME_LIMIT]


def _known(scope: RequestScope, facts: dict[str, Any]) -> dict[str, Any] | None:
    """Return the success that an earlier hook of this request recorded about the same user."""
    if facts["outcome"] == keys.OUTCOME_SUCCESS:
        for _, known in scope.logins:
            if (known["action"], known["outcome"]) == (facts["action"], facts["outcome"]) and _same(known, facts):
                return known
    return None


def _same(known: dict[str, Any], facts: dict[str, Any]) -> bool:
    for key in ("user", "username"):
        if known[key] and facts[key]:
            return bool(known[key] == facts[key])
    return True


def _add(scope: RequestScope, facts: dict[str, Any]) -> None:
    event_id = record_id(int(facts["at"]))
    scope.logins.append((event_id, facts))
    scope.metadata_only = True
    span = scope.span if scope.span is not None else trace.get_current_span()
    if span.is_recording():  # OpenTelemetry's middleware has ended its span when the guard concludes
        span.add_event(
            keys.EVENT_LOGIN,
            {
                keys.AUDIT_ACTION: facts["action"],
                keys.AUDIT_OUTCOME: facts["outcome"],
                keys.AUDIT_LOGIN_METHOD: facts["method"],
                keys.AUDIT_RECORD_ID: event_id,
            },
            timestamp=int(facts["at"]),
        )


def _emit_alone(scope: RequestScope | None, facts: dict[str, Any]) -> None:
    """Emit an event outside any request, as a script that signs somebody in, or after the request's record."""
    ambient = current_actor.get()
    if ambient is not None:
        facts["actor"] = (ambient.id, ambient.name, ambient.type)
    ids = {"request": None if scope is None else scope.record_id, "process": None, "step": None}
    context = trace.get_current_span().get_span_context()
    delivery().event("login", record_id(int(facts["at"])), ids, facts, None, context)
