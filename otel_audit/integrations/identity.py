"""What ties a request to others and to the person behind it: the session's fingerprint, and who really acts.

Both are read from a session that the request has loaded anyway: no query is made, and none of Django's marks is set
that would add ``Vary: Cookie``. A cookie that nobody has looked up is only what a client says.
"""

from __future__ import annotations

import hmac
import sys
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from django.conf import settings
from django.utils.encoding import force_bytes

from otel_audit import attributes as keys
from otel_audit.own_facts import add_own
from otel_audit.request_scope import RequestScope, described

__all__ = ["identify", "note_session", "session_fingerprint"]

#: Hexadecimal digits of a fingerprint: 128 bits.
_LENGTH: Final = 32
_SALT: Final = b"otel_audit.session"
_NAME_LIMIT: Final = 255
_WHO: Final = frozenset({keys.AUDIT_IMPERSONATOR_ID, keys.AUDIT_IMPERSONATOR_NAME})


def session_fingerprint(request: Any) -> str | None:
    """Return the keyed hash of the session's key; None where there is no session, or none that was looked up."""
    session = getattr(request, "session", None)
    return None if _content(session) is None else _fingerprint(session)


def note_session(scope: RequestScope | None, request: Any, facts: dict[str, Any] | None) -> None:
    """Note on a sign-out, before the session is gone, which one it was and who acted in it."""
    found = _found(request)
    if scope is not None:
        scope.own.update(found)
    if facts is not None and found:
        add_own(facts, found)


def identify(scope: RequestScope) -> None:
    """Add to a request, and to the sign-ins in it, what its session tells."""
    found = _found(scope.request)
    acquired = keys.AUDIT_IMPERSONATOR_ID in found
    if acquired:
        _add_name(scope, found)
    if found:
        scope.own.update(found)
    if not scope.logins or not scope.own:
        return
    about = {name: value for name, value in scope.own.items() if name == keys.SESSION_ID or name in _WHO}
    for _, facts in scope.logins:
        if told := _told(facts, about):
            add_own(facts, told)
        if acquired and (facts["action"], facts["outcome"]) == ("LOGIN", keys.OUTCOME_SUCCESS):
            # Nobody has shown a password of the user: another one has opened this session.
            name = found.get(keys.AUDIT_IMPERSONATOR_NAME, "")
            facts["actor"] = (found[keys.AUDIT_IMPERSONATOR_ID], name, keys.ACTOR_USER)


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
    if (fingerprint := _fingerprint(session)) is not None:
        found[keys.SESSION_ID] = fingerprint
    if (who := _impersonator(content)) is not None:
        found[keys.AUDIT_IMPERSONATOR_ID] = who[:_NAME_LIMIT]
    return found


def _fingerprint(session: Any) -> str | None:
    key = getattr(session, "session_key", None)
    if not isinstance(key, str) or not key:
        return None
    return hmac.digest(_key(settings.SECRET_KEY), key.encode("utf-8", "surrogatepass"), "sha256").hex()[:_LENGTH]


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


@lru_cache(maxsize=2)
def _key(secret: str | bytes) -> bytes:
    return sha256(_SALT + force_bytes(secret)).digest()
