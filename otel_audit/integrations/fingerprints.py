"""Fingerprints of tokens: keyed hashes of their identity, from which nothing leads back to a token.

A token's identity is what it says itself: SimpleJWT's claim ``sid``, where the site puts one into its refresh tokens
and so into all that is made of them, else ``jti``, which each token has of its own; a row of REST framework's has its
key. Where two tokens have nothing in common, two fingerprints say so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.db.models import Model

from otel_audit.keyed import fingerprint

__all__ = ["SESSION_CLAIM", "jwt_fingerprint", "jwt_type", "only_fingerprint", "token_fingerprint"]

#: OpenID Connect's name for a session.
SESSION_CLAIM: Final = "sid"
#: Of what kind a fingerprint is, so that none is taken for one of another.
_JWT: Final = "jwt:"
_ROW: Final = "token:"


def token_fingerprint(token: Any) -> str | None:
    """Return that of the token by which a request was authenticated; None where it is none that we know.

    Args:
        token: ``request.auth``: a token of SimpleJWT, or a row with ``key`` and ``user``, as REST framework's.
    """
    if token is None:
        return None
    claims = _claims(token)
    if claims is not None:
        return jwt_fingerprint(claims)
    found = vars(token) if isinstance(token, Model) else {}
    key = found.get("key")
    return fingerprint(_ROW + key) if isinstance(key, str) and key and "user_id" in found else None


def jwt_fingerprint(claims: Mapping[str, Any]) -> str | None:
    """Return that of a token with ``claims``, which somebody has verified; None where they name no identity."""
    # Imported already, as there is a token; an import statement takes longer than all the rest.
    api_settings = sys.modules["rest_framework_simplejwt.settings"].api_settings
    for claim in (SESSION_CLAIM, api_settings.JTI_CLAIM):
        found = claims.get(claim)
        if isinstance(found, str) and found:
            return fingerprint(f"{_JWT}{claim}:{found}")
    return None


def jwt_type(claims: Mapping[str, Any]) -> str | None:
    """Return ``"access"``, ``"refresh"``, ``"sliding"`` or what else a token with ``claims`` is."""
    from rest_framework_simplejwt.settings import api_settings

    found = claims.get(api_settings.TOKEN_TYPE_CLAIM)
    return found if isinstance(found, str) else None


def only_fingerprint(found: Iterable[str | None]) -> str | None:
    """Return the one fingerprint that there is: of several, nothing says which one counts."""
    distinct = {one for one in found if one is not None}
    return distinct.pop() if len(distinct) == 1 else None


def _claims(token: Any) -> Mapping[str, Any] | None:
    module = sys.modules.get("rest_framework_simplejwt.tokens")
    if module is None or not isinstance(token, module.Token):
        return None
    claims = getattr(token, "payload", None)
    return claims if isinstance(claims, Mapping) else None
