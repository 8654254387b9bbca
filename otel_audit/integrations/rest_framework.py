"""REST framework's own token view, which sends a signal when it refuses and none when it lets somebody in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.db.models.signals import post_init
from django.utils import translation

from otel_audit.attributes import OUTCOME_FAILURE, OUTCOME_SUCCESS
from otel_audit.edges import edge
from otel_audit.integrations.attempts import Attempt, current_attempt, serializer_made, served
from otel_audit.integrations.imports import when_imported, wrap
from otel_audit.integrations.signin import LOGIN, REAUTHENTICATE, acts_as, attempted_name, record
from otel_audit.integrations.tokens import noted, trail_of
from otel_audit.request_scope import RequestScope, scope_of
from otel_audit.scope import current_request

__all__ = ["METHOD", "connect", "parsed_data", "reason_of", "signed_in"]

METHOD: Final = "drf-token"

#: Codes of REST framework's and SimpleJWT's errors in words; others stand for themselves.
_REASONS: Final = {"authorization": "invalid credentials", "no_active_account": "no active account"}


def connect() -> None:
    """Wrap the token view and the serializer that finds its user; see the tokens that are made and loaded."""
    when_imported("rest_framework.authtoken.views", _wrap_view)
    when_imported("rest_framework.authtoken.models", _watch_rows)
    when_imported(
        "rest_framework.authtoken.serializers",
        lambda module: wrap(module.AuthTokenSerializer, "validate", _user_found),
    )


def signed_in(view: Any, attempt: Attempt, status: int) -> None:
    """Record how an attempt to get a token for a name and a password ended."""
    if view.request.method != "POST":
        return
    user = attempt.found_user()
    if status < 400:
        scope = scope_of(view.request)
        acts_as(scope, user)
        if scope is not None or not attempt.has(LOGIN, OUTCOME_SUCCESS):  # a scope knows what it has
            own = trail_of(attempt.made) if attempt.made else None
            record(view.request, LOGIN, OUTCOME_SUCCESS, user=user, method=attempt.method, own=own)
    elif not (attempt.has(LOGIN, OUTCOME_FAILURE) or attempt.has(REAUTHENTICATE, OUTCOME_FAILURE)):
        field = getattr(attempt.serializer, "username_field", "username")
        record(
            view.request,
            LOGIN,
            OUTCOME_FAILURE,
            user=user,
            username=attempted_name(parsed_data(view.request), field),
            method=attempt.method,
            reason=reason_of(attempt.error, status) if _active(user) else "the user is inactive",
        )


def parsed_data(request: Any) -> Any:
    """Return ``request.data`` if the view has parsed it, else None: a body that nobody read is not read here."""
    data = vars(request).get("_full_data")
    return None if isinstance(data, type) else data  # REST framework's mark for "not yet" is a class


def reason_of(error: BaseException | None, status: int) -> str:
    """Say in English why a token view refused, whatever language the client asked for."""
    from rest_framework.exceptions import APIException

    if error is None:
        return f"refused with status {status}"
    # SimpleJWT's TokenError says more than the InvalidToken that is made of it.
    cause = error.__cause__ if isinstance(error, APIException) and error.__cause__ is not None else error
    if isinstance(cause, APIException):
        return _words(cause.get_codes())
    if type(cause).__module__ == "rest_framework_simplejwt.exceptions":
        with translation.override(None):
            return str(cause)
    return type(cause).__name__


def _wrap_view(module: Any) -> None:
    wrap(module.ObtainAuthToken, "get_serializer", serializer_made)
    wrap(module.ObtainAuthToken, "dispatch", served(METHOD, signed_in))


def _watch_rows(module: Any) -> None:
    post_init.connect(_row_seen, sender=module.Token, dispatch_uid="otel_audit.token_row")


def _row_seen(sender: Any, instance: Any = None, **kwargs: Any) -> None:
    with edge("signals.token_row"):
        if isinstance(scope := current_request.get(), RequestScope):
            scope.tokens = noted(scope.tokens, instance)


def _user_found(validate: Callable[..., Any], serializer: Any, attrs: Any) -> Any:
    validated = validate(serializer, attrs)
    with edge("integrations.AuthTokenSerializer"):
        if (attempt := current_attempt.get()) is not None:
            attempt.user = validated.get("user")
    return validated


def _active(user: Any) -> bool:
    return bool(getattr(user, "is_active", True))


def _words(codes: Any) -> str:
    """Return ``{"password": ["blank"]}`` as ``blank: password``; the other way round redaction takes it for one."""
    if isinstance(codes, dict):
        found = (
            _words(value) if key == "non_field_errors" else f"{_words(value)}: {key}" for key, value in codes.items()
        )
        return ", ".join(found)
    if isinstance(codes, list):
        return ", ".join(map(_words, codes))
    return _REASONS.get(str(codes), str(codes).replace("_", " "))
