"""What ties a request to others and to the person behind it: the session's fingerprint, and who really acts.

Both are read from a session that the request has loaded anyway: no query is made, and none of Django's marks is set
that would add ``Vary: Cookie``. A cookie that nobody has looked up is only what a client says. Where a token has
authenticated the request, the fingerprint is the token's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from otel_audit import attributes as keys
from otel_audit.integrations.fingerprints import token_fingerprint
from otel_audit.integrations.tokens import row_fingerprint
from otel_audit.keyed import fingerprint
from otel_audit.own_facts import add_own
from otel_audit.request_scope import RequestScope, described

__all__ = ["identify", "note_session", "session_fingerprint", "session_id"]

_NAME_LIMIT: Final = 255
_SESSION: Final = "session_id"
_ROW_METHOD: Final = "drf-token"
_WHO: Final = frozenset({keys.AUDIT_IMPERSONATOR_ID, keys.AUDIT_IMPERSONATOR_NAME})


def session_fingerprint(request: Any) -> str | None:
    """Return the keyed hash of the session's key; None where there is no session, or none that was looked up."""
    session = getattr(request, "session", None)
    return None if _content(session) is None else _fingerprint(session)


def session_id(request: Any) -> str | None:
    """Return the keyed hash of the token that authenticated a request, else of its session; None without either."""
    return _token(request) or session_fingerprint(request)


def note_session(scope: RequestScope | None, request: Any, facts: dict[str, Any] | None) -> None:
    """Note on a sign-out, before the session or the token is gone, which one it was and who acted in it."""
    found = _found(request)
    if keys.SESSION_ID not in found and (token := _token(request)) is not None:
        found[keys.SESSION_ID] = token
    if scope is not None:
        scope.own.update(found)
    if facts is not None and found:
        add_own(facts, found)


def identify(scope: RequestScope) -> None:
    """Add to a request, and to the sign-ins in it, what its session tells, or the token that authenticated it."""
    found = _found(scope.request)
    session = found.get(keys.SESSION_ID)
    if (token := _token(scope.request)) is not None:
        found = {keys.SESSION_ID: token}  # who acts in the session is not asked then
    acquired = keys.AUDIT_IMPERSONATOR_ID in found
    if acquired:
        _add_name(scope, found)
    if found:
        scope.own.update(found)
    if scope.logins:
        _identify_sign_ins(scope, found if acquired else {}, session)


def _identify_sign_ins(scope: RequestScope, acquired: Mapping[str, str], session: str | None) -> None:
    about = {name: value for name, value in scope.own.items() if name == keys.SESSION_ID or name in _WHO}
    for _, facts in scope.logins:
        told = _told(facts, about)
        if _is_sign_in(facts) and (opened := _opened(scope, facts, session)) is not None:
            told[keys.SESSION_ID] = opened
        if facts.get(_SESSION) is not None:
            told.pop(keys.SESSION_ID, None)  # the hook that recorded it knows better
        if told:
            add_own(facts, told)
        if acquired and _is_sign_in(facts):
            # Nobody has shown a password of the user: another one has opened this session.
            name = acquired.get(keys.AUDIT_IMPERSONATOR_NAME, "")
            facts["actor"] = (acquired[keys.AUDIT_IMPERSONATOR_ID], name, keys.ACTOR_USER)
    if keys.SESSION_ID not in scope.own:
        given = {facts.get(_SESSION) for _, facts in scope.logins if facts["outcome"] == keys.OUTCOME_SUCCESS}
        if len(given) == 1 and (only := given.pop()):
            scope.own[keys.SESSION_ID] = only


def _opened(scope: RequestScope, facts: Mapping[str, Any], session: str | None) -> str | None:
    """Return what a sign-in has opened: a session, or a row of REST framework's tokens."""
    if scope.tokens and facts["user"] is not None and (session is None or facts["method"] == _ROW_METHOD):
        return row_fingerprint(scope, facts["user"]) or session
    return session


def _is_sign_in(facts: Mapping[str, Any]) -> bool:
    return (facts["action"], facts["outcome"]) == ("LOGIN", keys.OUTCOME_SUCCESS)


def _told(facts: Mapping[str, Any], about: Mapping[str, str]) -> dict[str, str]:
    """Return what of ``about`` is true of a sign-in event."""
    left_out = set()
    if facts["action"] == "LOGOUT":
        left_out.add(keys.SESSION_ID)  # the session that is there now is not the one that has ended
    if facts["user"] == about.get(keys.AUDIT_IMPERSONATOR_ID):
        left_out |= _WHO  # who ends an impersonation signs in as nobody but himself
    return {name: value for name, value in about.items() if name not in left_out}


def _found(request: Any) -> dict[str, str]:
    session = getattr(request, "session", None)
    content = _content(session)
    found: dict[str, str] = {}
    if content is None:
        return found
    if (hashed := _fingerprint(session)) is not None:
        found[keys.SESSION_ID] = hashed
    if (who := _impersonator(content)) is not None:
        found[keys.AUDIT_IMPERSONATOR_ID] = who[:_NAME_LIMIT]
    return found


def _token(request: Any) -> str | None:
    django_request = getattr(request, "_request", request)
    return token_fingerprint(vars(django_request).get("auth"))  # where REST framework puts it


def _fingerprint(session: Any) -> str | None:
    key = getattr(session, "session_key", None)
    return fingerprint(key) if isinstance(key, str) and key else None


def _content(session: Any) -> Mapping[str, Any] | None:
    """Return what a session holds if it has been loaded. Asking the session itself would load it, and mark it used."""
    content = None if session is None else getattr(session, "_session_cache", None)
    return content if isinstance(content, dict) else None


def _impersonator(content: Mapping[str, Any]) -> str | None:
    """Return the primary key of who really acts, as django-hijack or django-loginas keep it in the session."""
    history = content.get("hijack_history")
    if isinstance(history, list) and history:
        return str(history[0])  # the others are stations on the way
    loginas = sys.modules.get("loginas.settings")
    if loginas is None:
        return None
    signed = content.get(loginas.USER_SESSION_FLAG)
    return signed.rsplit(":", 2)[0] if isinstance(signed, str) and signed else None


def _add_name(scope: RequestScope, found: dict[str, str]) -> None:
    """Add the real user's name where this request has had that user at hand: when the impersonation begins."""
    user = scope.user_before()
    actor = described(user)
    if actor is not None and str(getattr(user, "pk", None)) == found[keys.AUDIT_IMPERSONATOR_ID]:
        found[keys.AUDIT_IMPERSONATOR_NAME] = actor.name
