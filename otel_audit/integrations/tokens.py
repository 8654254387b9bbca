"""The tokens of a request: those that were made in it, or read from the database, until its sign-ins are concluded.

A sign-in is tied to the requests that follow by the token that it gives out, which no hook is told: SimpleJWT's are
noted when they get their id, REST framework's rows when they are made or loaded. No query is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.integrations.fingerprints import (
    SESSION_CLAIM,
    jwt_fingerprint,
    jwt_type,
    only_fingerprint,
    token_fingerprint,
)
from otel_audit.request_scope import RequestScope

__all__ = ["jwts_of", "noted", "row_fingerprint", "trail_of"]

#: A request that makes or loads more tokens is no sign-in: which one counts, nobody could say.
MAX_NOTED: Final = 16
#: What a client shows with its requests, and what with its next refresh.
_SHOWN: Final = frozenset({"access", "sliding"})
_REFRESH: Final = frozenset({"refresh"})


def noted(tokens: list[Any] | None, token: Any) -> list[Any]:
    """Return ``tokens`` with one that was made or loaded; what it says is read when the request is concluded."""
    tokens = [] if tokens is None else tokens
    if len(tokens) < MAX_NOTED and not any(other is token for other in tokens):
        tokens.append(token)
    return tokens


def jwts_of(scope: RequestScope, token: Any, claim: str) -> list[Any]:
    """Return the tokens of SimpleJWT that this request has made for the user of ``token``, whom ``claim`` names."""
    made = [other for other in scope.tokens or () if hasattr(other, "payload")]
    return [other for other in made if other.payload.get(claim) == token.payload.get(claim)]


def trail_of(made: Sequence[Any], shown: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return what ties an event about tokens of SimpleJWT to others, by keys of `otel_audit.attributes`.

    ``session.id`` is of the token that requests show from now on, "" where none is known; ``audit.refresh.id`` of the
    refresh token that was given out or shown, ``audit.refresh.next_id`` of the one that replaces it.

    Args:
        made: tokens that were made for it.
        shown: claims of the verified token that a client has sent.
    """
    claims = [token.payload for token in made] if len(made) < MAX_NOTED else []
    session = only_fingerprint(_of_type(claims, _SHOWN))
    new = only_fingerprint(_of_type(claims, _REFRESH))
    old = only_fingerprint(_of_type([shown], _REFRESH)) if shown is not None else None
    if session is None and shown is not None and (old is None or SESSION_CLAIM in shown):
        session = jwt_fingerprint(shown)
    trail = {keys.SESSION_ID: session or ""}
    if (first := old or new) is not None:
        trail[keys.AUDIT_REFRESH_ID] = first
    if old is not None and new is not None and new != old:
        trail[keys.AUDIT_REFRESH_NEXT_ID] = new
    return trail


def row_fingerprint(scope: RequestScope, user: str) -> str | None:
    """Return the fingerprint of the one row of REST framework's tokens that this request has seen of ``user``."""
    rows = [token for token in scope.tokens or () if hasattr(token, "user_id")]
    if len(rows) >= MAX_NOTED:
        return None
    return only_fingerprint(token_fingerprint(row) for row in rows if _owner(row) == user)


def _of_type(claims: Sequence[Mapping[str, Any]], types: frozenset[str]) -> Iterator[str | None]:
    return (jwt_fingerprint(each) for each in claims if jwt_type(each) in types)


def _owner(row: Any) -> str:
    """Return the key of a row's user as a record names it, without a query."""
    user = row._state.fields_cache.get("user")
    return str(row.user_id if user is None else getattr(user, conf.user_pk_name, row.user_id))
