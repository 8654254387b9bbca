"""Django's own sign-ins: sessions, the admin, and every backend that goes through ``authenticate()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import ValidationError

from otel_audit.attributes import OUTCOME_FAILURE, OUTCOME_SUCCESS
from otel_audit.edges import edge
from otel_audit.integrations.attempts import Attempt, current_attempt, metadata_only, opened
from otel_audit.integrations.identity import note_session
from otel_audit.integrations.imports import when_imported, wrap
from otel_audit.integrations.lockouts import LOCKED_OUT
from otel_audit.integrations.signin import LOGIN, LOGOUT, REAUTHENTICATE, Subject, acts_as, attempted_name, record
from otel_audit.request_scope import RequestScope, scope_of
from otel_audit.scope import current_request

__all__ = ["METHOD", "connect"]

METHOD = "session"

_INVALID = "invalid credentials"
_INACTIVE = "the user is inactive"
_NOT_ALLOWED = "the user may not sign in here"


def connect() -> None:
    """Connect the signal receivers, and the wraps that know what the signals do not tell."""
    user_logged_in.connect(_logged_in, dispatch_uid="otel_audit.logged_in")
    user_logged_out.connect(_logged_out, dispatch_uid="otel_audit.logged_out")
    user_login_failed.connect(_login_failed, dispatch_uid="otel_audit.login_failed")
    when_imported("django.contrib.auth.forms", lambda module: wrap(module.AuthenticationForm, "clean", _form_cleaned))
    when_imported(
        "django.contrib.auth.backends",
        lambda module: wrap(module.ModelBackend, "user_can_authenticate", _user_checked),
    )


# ── signals ─────────────────────────────────────────────────────────────────────────────────────


def _logged_in(sender: Any, request: Any = None, user: Any = None, **kwargs: Any) -> None:
    with edge("signals.user_logged_in"):
        scope = _scope(request)
        if scope is not None:
            scope.acting_user = None  # who signed out earlier in this request no longer acts
        attempt = current_attempt.get()
        _noted(attempt, record(_request(scope), LOGIN, OUTCOME_SUCCESS, user=user, method=_method(attempt, METHOD)))
        acts_as(scope, user)  # a library may send the signal alone, as djoser does for a token


def _logged_out(sender: Any, request: Any = None, user: Any = None, **kwargs: Any) -> None:
    if user is None:
        return  # nobody was signed in
    with edge("signals.user_logged_out"):
        scope = _scope(request)
        who = user if getattr(user, "pk", None) is not None else _deleted(request, user)
        if scope is not None:
            scope.acting_user = who
        facts = record(_request(scope), LOGOUT, OUTCOME_SUCCESS, user=who, method=METHOD)
        note_session(scope, request, facts)


def _login_failed(sender: Any, credentials: dict[str, Any] | None = None, request: Any = None, **kwargs: Any) -> None:
    with edge("signals.user_login_failed"):
        scope = _scope(request)
        attempt = current_attempt.get()
        name = attempted_name(credentials)
        refused = _refused(scope, name)
        locked_out = scope is not None and scope.locked_out
        facts = record(
            _request(scope),
            REAUTHENTICATE if _is_again(scope, name) else LOGIN,
            OUTCOME_FAILURE,
            user=refused,
            username=name,
            method=_method(attempt, "basic" if _basic(scope) else "password"),
            reason=LOCKED_OUT if locked_out else _INVALID if refused is None else _INACTIVE,
        )
        _noted(attempt, facts)


def _scope(request: Any) -> RequestScope | None:
    """Return the scope of the request that a signal came with, else of the one being served.

    ``authenticate()`` may go without a request.
    """
    found = scope_of(request) if request is not None else None
    if found is None:
        current = current_request.get()
        found = current if isinstance(current, RequestScope) else None
    return found


def _request(scope: RequestScope | None) -> Any:
    return None if scope is None else scope.request


def _method(attempt: Attempt | None, otherwise: str) -> str:
    return otherwise if attempt is None else attempt.method


def _noted(attempt: Attempt | None, facts: dict[str, Any] | None) -> None:
    if attempt is not None and facts is not None:
        attempt.events.append(facts)


def _deleted(request: Any, user: Any) -> Any:
    """Return who a user was whose row this request has deleted: Django takes the key from the object."""
    key = request.session.get(SESSION_KEY) if hasattr(request, "session") else None
    return user if key is None else Subject(str(key), str(user.get_username()))


def _refused(scope: RequestScope | None, name: Any) -> Any:
    """Return the user whom a backend has turned away although the password was right, if that was the one named."""
    if scope is None or scope.refused is None:
        return None
    user, scope.refused = scope.refused, None
    names = (user.get_username(), getattr(user, "email", ""))
    return user if str(name).casefold() in {str(known).casefold() for known in names if known} else None


def _is_again(scope: RequestScope | None, name: Any) -> bool:
    """Whether who is signed in was asked for the password once more, as before something that cannot be undone."""
    actor = None if scope is None else scope.actor()
    return actor is not None and actor.id is not None and str(name).casefold() == actor.name.casefold()


def _basic(scope: RequestScope | None) -> bool:
    return scope is not None and scope.meta.get("HTTP_AUTHORIZATION", "")[:6].lower() == "basic "


# ── wraps ───────────────────────────────────────────────────────────────────────────────────────


def _user_checked(check: Callable[..., Any], backend: Any, user: Any) -> Any:
    """Note the user that a backend turns away: the signal that follows says only that the credentials failed."""
    allowed = check(backend, user)
    if not allowed and user is not None:
        with edge("integrations.user_can_authenticate"):
            scope = current_request.get()
            if isinstance(scope, RequestScope):
                scope.refused = user
    return allowed


def _form_cleaned(clean: Callable[..., Any], form: Any) -> Any:
    """Record a sign-in that the form refuses although the credentials are right: no signal is sent for it."""
    with edge("integrations.AuthenticationForm"):
        metadata_only(form.request)
    if current_attempt.get() is not None:
        return clean(form)
    try:
        with opened(METHOD):
            return clean(form)
    except ValidationError as error:
        with edge("integrations.AuthenticationForm"):
            _form_refused(form, error)
        raise


def _form_refused(form: Any, error: ValidationError) -> None:
    user = form.user_cache
    if user is None:
        return  # authenticate() has failed, and has said so
    record(
        _request(_scope(form.request)),
        LOGIN,
        OUTCOME_FAILURE,
        user=user,
        username=form.cleaned_data.get("username", ""),
        method=METHOD,
        reason=_INACTIVE if error.code == "inactive" else _NOT_ALLOWED,
    )
