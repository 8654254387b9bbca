"""What the request's span says of user, session and code, where somebody beside us gets to see it.

Hashes alone: who looks at traces sees which requests belong together and finds no key of a user or a session. The
names are those of the semantic conventions.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from otel_audit import attributes as keys
from otel_audit.edges import caught
from otel_audit.integrations.identity import session_id
from otel_audit.keyed import actor_hash
from otel_audit.request_scope import RequestScope, scope_of

__all__ = ["describe_span", "standard_attributes"]


def describe_span(request: HttpRequest) -> None:
    """Say on the span of another instrumentation what is known when the view has returned; it has ended afterwards.

    Who acts is asked of nobody: where the view did not ask for the user, the span does not say.
    """
    try:
        scope = scope_of(request)
        if scope is None or scope.span is None or not scope.span.is_recording():
            return
        found = {keys.AUDIT_RECORD_ID: scope.record_id, **standard_attributes(scope)}
        if keys.SESSION_ID not in found and (session := session_id(request)) is not None:
            found[keys.SESSION_ID] = session
        scope.span.set_attributes(found)
    except Exception:
        caught("middleware.span")


def standard_attributes(scope: RequestScope) -> dict[str, str]:
    """Return ``user.hash``, ``session.id`` and ``code.function.name``, as far as they are known."""
    found: dict[str, str] = {}
    try:
        actor = scope.actor()
        if actor is not None and actor.id is not None:
            found[keys.USER_HASH] = actor_hash(str(actor.id))
        if (session := scope.own.get(keys.SESSION_ID)) is not None:
            found[keys.SESSION_ID] = session
        if (view := _view(scope)) is not None:
            found[keys.CODE_FUNCTION_NAME] = f"{view.__module__}.{view.__qualname__}"
    except Exception:
        caught("guard.span_facts")
    return found


def _view(scope: RequestScope) -> Any:
    """Return the view's function, or the class of whose methods it is made; None where it is neither."""
    function = getattr(getattr(scope.request, "resolver_match", None), "func", None)
    view = getattr(function, "view_class", getattr(function, "cls", function))
    return view if isinstance(getattr(view, "__qualname__", None), str) else None
