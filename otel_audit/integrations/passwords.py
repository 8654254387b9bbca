"""Passwords that are changed, reset or asked for again: Django sends no signal for any of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.core.exceptions import ValidationError

from otel_audit.attributes import OUTCOME_FAILURE, OUTCOME_SUCCESS
from otel_audit.edges import edge
from otel_audit.integrations.attempts import current_attempt, opened
from otel_audit.integrations.imports import when_imported, wrap
from otel_audit.integrations.signin import REAUTHENTICATE, record
from otel_audit.scope import current_request

__all__ = ["PASSWORD_CHANGE", "PASSWORD_RESET", "PASSWORD_RESET_REQUEST", "connect"]

PASSWORD_CHANGE: Final = "PASSWORD_CHANGE"  # noqa: S105  # an action
PASSWORD_RESET: Final = "PASSWORD_RESET"  # noqa: S105  # an action
PASSWORD_RESET_REQUEST: Final = "PASSWORD_RESET_REQUEST"  # noqa: S105  # an action

#: How somebody gets in who follows the link of a reset; Django's view can sign the user in right away.
METHOD: Final = "reset-link"


def connect() -> None:
    """Wrap where Django itself knows."""
    when_imported("django.contrib.auth.base_user", lambda module: wrap(module.AbstractBaseUser, "save", _saved))
    when_imported(
        "django.contrib.auth.views", lambda module: wrap(module.PasswordResetConfirmView, "form_valid", _link_followed)
    )
    when_imported("django.contrib.auth.forms", _wrap_forms)


def _wrap_forms(module: Any) -> None:
    wrap(module.PasswordResetForm, "save", _link_asked_for)
    wrap(module.PasswordChangeForm, "clean_old_password", _asked_again)


def _saved(save: Callable[..., Any], user: Any, *args: Any, **kwargs: Any) -> Any:
    """Record a password that is new, as Django tells it from a better hash; a new user's first one is no change."""
    changed = getattr(user, "_password", None) is not None and not user._state.adding
    found = save(user, *args, **kwargs)
    if changed:
        with edge("integrations.AbstractBaseUser.save"):
            attempt = current_attempt.get()
            by_link = attempt is not None and attempt.method == METHOD
            action = PASSWORD_RESET if by_link else PASSWORD_CHANGE
            record(_request(), action, OUTCOME_SUCCESS, user=user, method=METHOD if by_link else "password")
    return found


def _link_followed(form_valid: Callable[..., Any], view: Any, form: Any) -> Any:
    with opened(METHOD):
        return form_valid(view, form)


def _link_asked_for(save: Callable[..., Any], form: Any, *args: Any, **kwargs: Any) -> Any:
    """Record that somebody asked for a link; whether there is such a user, the answer does not tell either."""
    found = save(form, *args, **kwargs)
    with edge("integrations.PasswordResetForm"):
        email = form.cleaned_data.get("email", "")
        record(_request(), PASSWORD_RESET_REQUEST, OUTCOME_SUCCESS, username=email, method=METHOD)
    return found


def _asked_again(clean: Callable[..., Any], form: Any) -> Any:
    """Record that somebody who is signed in could not name the password in use."""
    try:
        return clean(form)
    except ValidationError:
        with edge("integrations.PasswordChangeForm"):
            record(
                _request(),
                REAUTHENTICATE,
                OUTCOME_FAILURE,
                user=form.user,
                method="password",
                reason="invalid credentials",
            )
        raise


def _request() -> Any:
    return getattr(current_request.get(), "request", None)
