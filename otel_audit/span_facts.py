"""What the request's span says of user, session and code, where somebody beside us gets to see it.

Hashes alone: who looks at traces sees which requests belong together and finds no key of a user or a session. The
names are those of the semantic conventions.
"""

from __future__ import annotations

from typing import Any

from otel_audit import attributes as keys
from otel_audit.edges import caught
from otel_audit.keyed import actor_hash
from otel_audit.request_scope import RequestScope

__all__ = ["standard_attributes"]


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
