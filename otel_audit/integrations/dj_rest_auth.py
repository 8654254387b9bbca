"""dj-rest-auth with ``SESSION_LOGIN`` off and without SimpleJWT: no signal tells of its tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_audit.attributes import OUTCOME_SUCCESS, SESSION_ID
from otel_audit.edges import edge
from otel_audit.integrations.fingerprints import token_fingerprint
from otel_audit.integrations.imports import when_imported, wrap
from otel_audit.integrations.rest_framework import METHOD
from otel_audit.integrations.signin import LOGIN, LOGOUT, acts_as, record
from otel_audit.request_scope import scope_of

__all__ = ["connect"]


def connect() -> None:
    """Wrap the views; where a signal tells, too, the event is the same."""
    when_imported("dj_rest_auth.views", _wrap_views)


def _wrap_views(module: Any) -> None:
    wrap(module.LoginView, "login", _signed_in)
    wrap(module.LogoutView, "logout", _signed_out)


def _signed_in(login: Callable[..., Any], view: Any, *args: Any, **kwargs: Any) -> Any:
    found = login(view, *args, **kwargs)
    with edge("integrations.LoginView"):
        token = token_fingerprint(getattr(view, "token", None))
        own = {SESSION_ID: token} if token is not None else None
        record(view.request, LOGIN, OUTCOME_SUCCESS, user=view.user, method=METHOD, own=own)
        acts_as(scope_of(view.request), view.user)
    return found


def _signed_out(logout: Callable[..., Any], view: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
    user = getattr(request, "user", None)  # REST framework has asked for it before it called the view
    with edge("integrations.LogoutView"):
        token = token_fingerprint(getattr(request, "auth", None))  # before it is deleted
    response = logout(view, request, *args, **kwargs)
    with edge("integrations.LogoutView"):
        if response.status_code < 400 and getattr(user, "is_authenticated", False):
            own = {SESSION_ID: token} if token is not None else {}
            record(request, LOGOUT, OUTCOME_SUCCESS, user=user, method=METHOD, own=own)
            if (scope := scope_of(request)) is not None:
                scope.acting_user = user
                scope.own.update(own)
    return response
