"""Somebody who acts as another user: the record's actor is who the view acted as, and beside it stands who it was.

django-hijack and django-loginas keep the real user in the session, where `otel_audit.integrations.identity` finds it.
For impersonation of the site's own there is `impersonated_by`.
"""

from __future__ import annotations

from typing import Any

from otel_audit.attributes import AUDIT_IMPERSONATOR_ID, AUDIT_IMPERSONATOR_NAME, OUTCOME_SUCCESS
from otel_audit.edges import edge
from otel_audit.integrations.imports import when_imported
from otel_audit.integrations.signin import LOGOUT, record
from otel_audit.request_scope import described, scope_of

__all__ = ["connect", "impersonated_by"]


def connect() -> None:
    """Hear when django-hijack gives a session back."""
    when_imported("hijack.signals", _listen)


def impersonated_by(request: Any, user: Any) -> None:
    """Say that ``user`` really acts in this request, as somebody else: for impersonation of the site's own.

    Call it in the middleware or view that puts another user in the place of the one who signed in. The record's actor
    stays the user as whom the view acts; ``extra_informations`` names this one under ``audit.impersonator.id`` and
    ``audit.impersonator.name``. The sessions of django-hijack and django-loginas need no call.
    """
    with edge("impersonation.impersonated_by"):
        if (scope := scope_of(request)) is not None:
            scope.own.update(_named(user))


def _listen(module: Any) -> None:
    module.hijack_ended.connect(_hijack_ended, dispatch_uid="otel_audit.hijack_ended")


def _hijack_ended(sender: Any, request: Any = None, hijacker: Any = None, hijacked: Any = None, **kwargs: Any) -> None:
    """Record the end as a sign-out of the user: Django's signal tells only of the sign-in that follows."""
    with edge("signals.hijack_ended"):
        facts = record(request, LOGOUT, OUTCOME_SUCCESS, user=hijacked, method="hijack", **_named(hijacker))
        actor = described(hijacker)
        if facts is not None and actor is not None:
            facts["actor"] = (actor.id, actor.name, actor.type)


def _named(user: Any) -> dict[str, Any]:
    actor = described(user)
    if actor is None or actor.id is None:
        return {}
    return {AUDIT_IMPERSONATOR_ID: str(user.pk), AUDIT_IMPERSONATOR_NAME: actor.name}
