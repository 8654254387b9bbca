"""SimpleJWT: no signal tells that a token is issued, refreshed, refused or put on the blacklist.

The views tell how an attempt ended, the token classes whom it was about; and code that makes or revokes tokens
without those views is heard at the token classes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from django.contrib.auth import get_user_model

from otel_audit.attributes import OUTCOME_FAILURE, OUTCOME_SUCCESS
from otel_audit.conf import conf
from otel_audit.edges import edge
from otel_audit.integrations.attempts import Attempt, current_attempt, opened, serializer_made, served
from otel_audit.integrations.imports import when_imported, wrap
from otel_audit.integrations.rest_framework import reason_of, signed_in
from otel_audit.integrations.signin import LOGIN, LOGOUT, REFRESH, VERIFY, Issued, Subject, acts_as, record
from otel_audit.integrations.tokens import jwts_of, noted, trail_of
from otel_audit.request_scope import RequestScope, scope_of
from otel_audit.scope import current_request

__all__ = ["METHOD", "connect"]

METHOD: Final = "simplejwt"

#: Types of token that sign somebody in; a site makes tokens of other types for links in mails and the like.
_SIGN_IN_TYPES: Final = frozenset({"access", "refresh", "sliding"})
#: What a serializer is for, by the classes that SimpleJWT's are derived from.
_SERIALIZERS: Final = (
    ("TokenObtainSerializer", LOGIN),
    ("TokenRefreshSerializer", REFRESH),
    ("TokenRefreshSlidingSerializer", REFRESH),
    ("TokenVerifySerializer", VERIFY),
    ("TokenBlacklistSerializer", LOGOUT),
)
#: The same for the views, whose serializers may be any.
_VIEWS: Final = (
    ("TokenObtainPairView", LOGIN),
    ("TokenObtainSlidingView", LOGIN),
    ("TokenRefreshView", REFRESH),
    ("TokenRefreshSlidingView", REFRESH),
    ("TokenVerifyView", VERIFY),
    ("TokenBlacklistView", LOGOUT),
)


def connect() -> None:
    """Wrap views, serializers and tokens."""
    when_imported("rest_framework_simplejwt.views", _wrap_views)
    when_imported("rest_framework_simplejwt.serializers", _wrap_serializers)
    when_imported("rest_framework_simplejwt.tokens", _wrap_tokens)


def _wrap_views(module: Any) -> None:
    wrap(module.TokenViewBase, "get_serializer", serializer_made)
    wrap(module.TokenViewBase, "dispatch", served(METHOD, _concluded))


def _wrap_serializers(module: Any) -> None:
    wrap(module.TokenRefreshSerializer, "validate", _refreshed)
    wrap(module.TokenRefreshSlidingSerializer, "validate", _refreshed)


def _wrap_tokens(module: Any) -> None:
    wrap(module.Token, "for_user", _issued)
    wrap(module.Token, "set_jti", _identified)
    wrap(module.Token, "verify", _verified)
    if hasattr(module.BlacklistMixin, "blacklist"):  # the blacklist is an app of its own
        wrap(module.BlacklistMixin, "verify", _verified)
        wrap(module.BlacklistMixin, "blacklist", _blacklisted)


# ── views ───────────────────────────────────────────────────────────────────────────────────────


def _concluded(view: Any, attempt: Attempt, status: int) -> None:
    action = _action(view, attempt)
    if action == LOGIN:
        signed_in(view, attempt, status)
    elif action is not None and view.request.method == "POST":
        _token_answered(view.request, action, attempt, status)


def _action(view: Any, attempt: Attempt) -> str | None:
    """Say what a token view is for; None where a view of the site's own has found nobody."""
    return (
        _derived(view, "rest_framework_simplejwt.views", _VIEWS)
        or _derived(attempt.serializer, "rest_framework_simplejwt.serializers", _SERIALIZERS)
        or (LOGIN if attempt.found_user() is not None else None)
    )


def _derived(thing: Any, module: str, table: tuple[tuple[str, str], ...]) -> str | None:
    names = {kind.__name__ for kind in type(thing).__mro__ if kind.__module__ == module}
    return next((action for name, action in table if name in names), None)


def _token_answered(request: Any, action: str, attempt: Attempt, status: int) -> None:
    subject = _subject(attempt.claims)
    extra: dict[str, Any] = {"own": trail_of(attempt.made, attempt.claims)} if attempt.claims or attempt.made else {}
    if attempt.claims is not None and (subject is None or status >= 400):
        extra["subject"] = attempt.claims.get(_claim())  # a token that is refused stands for nobody
    if status >= 400:
        reason = reason_of(attempt.error, status)
        record(request, action, OUTCOME_FAILURE, method=METHOD, reason=reason, **extra)
        return
    if action == VERIFY:
        return
    if action == LOGOUT:
        extra["revoked"] = attempt.revoked  # without the blacklist app the view answers the same
    acts_as(scope_of(request), subject)
    record(request, action, OUTCOME_SUCCESS, user=subject, method=METHOD, **extra)


def _subject(claims: Mapping[str, Any] | None) -> Subject | None:
    """Return whom a token was issued to that SimpleJWT has verified; no query is made for it."""
    from rest_framework_simplejwt.settings import api_settings

    key = None if claims is None else claims.get(_claim())
    if claims is None or key is None:
        return None
    primary = get_user_model()._meta.pk.name
    fields = {primary if name == "pk" else name for name in (api_settings.USER_ID_FIELD, conf.user_pk_name)}
    if len(fields) > 1:
        return None  # the claim holds another field than the one that names the actor
    name = claims.get(get_user_model().USERNAME_FIELD)
    return Subject(str(key), name if isinstance(name, str) else "")


def _claim() -> str:
    from rest_framework_simplejwt.settings import api_settings

    return str(api_settings.USER_ID_CLAIM)


# ── serializers ─────────────────────────────────────────────────────────────────────────────────


def _refreshed(validate: Callable[..., Any], serializer: Any, attrs: Any) -> Any:
    """Hear of a refresh in a view that is none of SimpleJWT's, and keep its rotation from counting as a sign-out."""
    if current_attempt.get() is not None:
        return validate(serializer, attrs)
    try:
        with opened(METHOD) as attempt:
            validated = validate(serializer, attrs)
    except Exception as error:
        with edge("integrations.TokenRefreshSerializer"):
            if (scope := _scope()) is not None:
                attempt.error = error
                _token_answered(scope.request, REFRESH, attempt, 401)
        raise
    with edge("integrations.TokenRefreshSerializer"):
        if (scope := _scope()) is not None:
            trail = trail_of(attempt.made, attempt.claims)
            scope.issued.append(Issued(REFRESH, _subject(attempt.claims), METHOD, lambda: trail))
    return validated


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────


def _issued(for_user: Callable[..., Any], cls: Any, user: Any) -> Any:
    """Note whom a token is made for. Outside a request it signs nobody in."""
    token = for_user(cls, user)
    with edge("integrations.Token.for_user"):
        attempt, scope = current_attempt.get(), _scope()
        if attempt is not None:
            attempt.user = user
        elif scope is not None and cls.token_type in _SIGN_IN_TYPES:
            trail = partial(_trail_of_issued, scope, token)
            scope.issued.append(Issued(LOGIN, user, METHOD, trail))
    return token


def _trail_of_issued(scope: RequestScope, token: Any) -> Mapping[str, str]:
    return trail_of(jwts_of(scope, token, _claim()))


def _identified(set_jti: Callable[..., Any], token: Any) -> None:
    """Note a token that is new, or new again."""
    set_jti(token)
    with edge("integrations.Token.set_jti"):
        if (attempt := current_attempt.get()) is not None:
            attempt.made = noted(attempt.made, token)
        elif (scope := _scope()) is not None:
            scope.tokens = noted(scope.tokens, token)


def _verified(verify: Callable[..., Any], token: Any, *args: Any, **kwargs: Any) -> Any:
    """Note the claims of a token whose signature was found good, also when it is refused now."""
    attempt = current_attempt.get()
    if attempt is not None and attempt.claims is None:
        attempt.claims = dict(token.payload)
    return verify(token, *args, **kwargs)


def _blacklisted(blacklist: Callable[..., Any], token: Any, *args: Any, **kwargs: Any) -> Any:
    """Hear of a token that is put on the blacklist: a sign-out, except where a refresh replaces it by another."""
    found = blacklist(token, *args, **kwargs)
    with edge("integrations.BlacklistMixin.blacklist"):
        attempt, scope = current_attempt.get(), _scope()
        if attempt is not None:
            attempt.revoked = True
        elif scope is not None:
            subject = _subject(token.payload)
            acts_as(scope, subject)
            trail = trail_of((), token.payload)
            record(scope.request, LOGOUT, OUTCOME_SUCCESS, user=subject, method=METHOD, own=trail, revoked=True)
    return found


def _scope() -> RequestScope | None:
    scope = current_request.get()
    return scope if isinstance(scope, RequestScope) else None
