"""Django's own sign-ins: sessions, the admin, and every backend that goes through ``authenticate()``."""

from __future__ import annotations

import sys
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.signals import got_request_exception

from otel_audit.edges import edge
from otel_audit.integrations.signin import LOGIN, LOGOUT, record
from otel_audit.request_scope import scope_of
from otel_audit.attributes import OUTCOME_FAILURE, OUTCOME_SUCCESS
from otel_audit.scope import current_request

__all__ = ["connect"]


def connect() -> None:
    """Connect the signal receivers."""
    user_logged_in.connect(_logged_in, dispatch_uid="otel_audit.logged_in")
    user_logged_out.connect(_logged_out, dispatch_uid="otel_audit.logged_out")
    user_login_failed.connect(_login_failed, dispatch_uid="otel_audit.login_failed")
    got_request_exception.connect(_request_exception, dispatch_uid="otel_audit.request_exception")


def _logged_in(sender: Any, request: Any = None, user: Any = None, **kwargs: Any) -> None:
    record(_request(request), LOGIN, OUTCOME_SUCCESS, user=user, method="session")


def _logged_out(sender: Any, request: Any = None, user: Any = None, **kwargs: Any) -> None:
    if user is None:
        return  # nobody was signed in
    if (scope := scope_of(request)) is not None:
        scope.acting_user = user
    record(_request(request), LOGOUT, OUTCOME_SUCCESS, user=user, method="session")


def _login_failed(sender: Any, credentials: dict[str, Any] | None = None, request: Any = None, **kwargs: Any) -> None:
    found = credentials or {}
    username = next((str(found[key]) for key in ("username", "email", "login") if found.get(key)), "")
    record(_request(request), LOGIN, OUTCOME_FAILURE, username=username, method="session", reason="invalid credentials")


def _request_exception(sender: Any, request: Any = None, **kwargs: Any) -> None:
    with edge("signals.got_request_exception"):
        if (scope := scope_of(request)) is not None:
            scope.failed(sys.exc_info()[1])


def _request(request: Any) -> Any:
    """Return the request that a signal came with, else the one being served: ``authenticate()`` may go without."""
    if request is not None and scope_of(request) is not None:
        return request
    scope = current_request.get()
    return getattr(scope, "request", None)
