"""Too many failed attempts: django-axes locks an account or an address out, django-allauth asks to try again later.

django-axes sends its signal when a lock begins, and again at each attempt that the lock refuses. The first is an event
of its own, beside the attempt that led to it; a later one is a failed attempt, whose reason says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.core.exceptions import PermissionDenied, ValidationError

from otel_audit.attributes import OUTCOME_FAILURE, OUTCOME_SUCCESS
from otel_audit.edges import edge
from otel_audit.integrations.imports import when_imported, wrap
from otel_audit.integrations.signin import LOGIN, attempted_name, record
from otel_audit.request_scope import RequestScope
from otel_audit.scope import current_request

__all__ = ["LOCKED_OUT", "LOCKOUT", "connect"]

LOCKOUT: Final = "LOCKOUT"
LOCKED_OUT: Final = "locked out"

_TOO_MANY: Final = "too many attempts"


def connect() -> None:
    """Listen to django-axes, and wrap what says no to a locked account."""
    when_imported("axes.signals", _listen)
    when_imported("axes.backends", lambda module: wrap(module.AxesStandaloneBackend, "authenticate", _asked))
    when_imported(
        "allauth.account.adapter", lambda module: wrap(module.DefaultAccountAdapter, "pre_authenticate", _limited)
    )


def _listen(module: Any) -> None:
    module.user_locked_out.connect(_locked_out, dispatch_uid="otel_audit.locked_out")


def _locked_out(sender: Any, request: Any = None, username: Any = None, **kwargs: Any) -> None:
    with edge("signals.user_locked_out"):
        scope = _scope()
        if scope is None or not scope.locked_out:
            record(request, LOCKOUT, OUTCOME_SUCCESS, username=username or "", method="axes", reason=_TOO_MANY)


def _asked(authenticate: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
    """Note whether a lock refused the attempt: the signal that follows says only that the credentials failed."""
    scope = _scope()
    try:
        found = authenticate(backend, *args, **kwargs)
    except PermissionDenied:
        if scope is not None:
            scope.locked_out = True
        raise
    if scope is not None:
        scope.locked_out = False
    return found


def _limited(check: Callable[..., Any], adapter: Any, request: Any, **credentials: Any) -> Any:
    """Record an attempt that django-allauth refuses before anybody has looked at the password."""
    try:
        return check(adapter, request, **credentials)
    except ValidationError:
        with edge("integrations.pre_authenticate"):
            name = attempted_name(credentials)
            record(request, LOGIN, OUTCOME_FAILURE, username=name, method="password", reason=_TOO_MANY)
        raise


def _scope() -> RequestScope | None:
    scope = current_request.get()
    return scope if isinstance(scope, RequestScope) else None
