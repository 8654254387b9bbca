"""One sign-in, sign-out or failed attempt: a span event on the request's span and one record beside it.

Several hooks may see the same event (Django's signal and a token view's wrap): within a request the first one makes
the record and later ones complete it.
"""

from __future__ import annotations

import time
from typing import Any, Final

from opentelemetry import trace

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.delivery import delivery
from otel_audit.edges import edge
from otel_audit.ids import record_id
from otel_audit.request_scope import META_LOGIN, META_REQUEST, RequestScope, scope_of
from otel_audit.scope import current_actor

__all__ = ["LOGIN", "LOGOUT", "REFRESH", "from_meta", "record"]

LOGIN: Final = "LOGIN"
LOGOUT: Final = "LOGOUT"
REFRESH: Final = "REFRESH"

#: The ancestor's statuses that a view may write into ``request.META["drf_login_audit_event"]``.
_STATUS_ACTIONS: Final = {
    "Sign in": (LOGIN, keys.OUTCOME_SUCCESS),
    "Sign out": (LOGOUT, keys.OUTCOME_SUCCESS),
    "Failed": (LOGIN, keys.OUTCOME_FAILURE),
}


def record(
    request: Any,
    action: str,
    outcome: str,
    *,
    user: Any = None,
    username: str = "",
    method: str = "",
    reason: str = "",
    **extra: Any,
) -> None:
    """Record one sign-in event.

    Args:
        request: the Django or DRF request, or None outside one.
        action: `LOGIN`, `LOGOUT`, `REFRESH` or another upper-case verb.
        outcome: ``"success"`` or ``"failure"``; what the event was, not what the user object says.
        user: the user object that the event is about, None where it is not known.
        username: the name that was attempted.
        method: how: ``"session"``, ``"simplejwt"``, ``"drf-token"``, …
        reason: why it failed.
        extra: further facts for ``extra_informations``.
    """
    if not conf.enabled:
        return
    with edge("signin.record"):
        facts = _facts(action, outcome, user, username, method, reason, extra)
        scope = scope_of(request) if request is not None else None
        if scope is None or scope.finished:
            _emit_alone(facts)
        elif not _complete(scope, facts):
            _add(scope, facts)


def from_meta(scope: RequestScope, response: Any) -> None:
    """Record what a view said in ``request.META`` or what the status of one of ``AUTH_URLS`` says, if no hook did."""
    written = scope.request.META.get(META_LOGIN)
    status = written.get("status") if isinstance(written, dict) else None
    request_meta = scope.request.META.get(META_REQUEST)
    user = request_meta.get("user") if isinstance(request_meta, dict) else None
    if user is not None:
        scope.acting_user = user
    if status is not None:
        action, outcome = _STATUS_ACTIONS.get(str(status), (str(status).upper(), keys.OUTCOME_SUCCESS))
    elif scope.method == "POST" and scope.path in conf.auth_urls:
        failed = response.status_code in conf.auth_failed_status_codes
        if not failed and response.status_code >= 400:
            return
        action, outcome = LOGIN, keys.OUTCOME_FAILURE if failed else keys.OUTCOME_SUCCESS
    else:
        return
    if any(facts["action"] == action and facts["outcome"] == outcome for _, facts in scope.logins):
        return
    record(scope.request, action, outcome, user=user, method="view")


def _facts(
    action: str, outcome: str, user: Any, username: str, method: str, reason: str, extra: dict[str, Any]
) -> dict[str, Any]:
    redactor = conf.redactor
    key = getattr(user, conf.user_pk_name, None) if user is not None else None
    name = user.get_username() if hasattr(user, "get_username") else ""
    facts: dict[str, Any] = {
        "at": str(time.time_ns()),
        "action": action,
        "outcome": outcome,
        "user": None if key is None else str(key),
        "username": redactor.text(str(username or name)),
        "method": method,
        "reason": redactor.text(str(reason)),
    }
    if key is not None:
        facts["actor"] = (str(key), str(name), keys.ACTOR_USER)
    if extra:
        facts["extra"] = redactor.value(extra)
    return facts


def _complete(scope: RequestScope, facts: dict[str, Any]) -> bool:
    """Fill what an earlier hook of this request left open in the same event; False when there is none."""
    for _, known in scope.logins:
        same_user = not facts["username"] or not known["username"] or facts["username"] == known["username"]
        if known["action"] == facts["action"] and known["outcome"] == facts["outcome"] and same_user:
            for key, value in facts.items():
                if value and not known.get(key):
                    known[key] = value
            return True
    return False


def _add(scope: RequestScope, facts: dict[str, Any]) -> None:
    event_id = record_id(int(facts["at"]))
    scope.logins.append((event_id, facts))
    scope.metadata_only = True
    span = scope.span if scope.span is not None else trace.get_current_span()
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


def _emit_alone(facts: dict[str, Any]) -> None:
    """Emit an event outside any request: a script that signs somebody in."""
    ambient = current_actor.get()
    if ambient is not None:
        facts["actor"] = (ambient.id, ambient.name, ambient.type)
    ids = {"request": None, "process": None, "step": None}
    context = trace.get_current_span().get_span_context()
    delivery().event("login", record_id(int(facts["at"])), ids, facts, None, context)
