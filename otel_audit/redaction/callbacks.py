"""Names that are secrets only in company: OAuth's ``code`` and ``state``, the ``sig`` of a link, a reset's ``key``.

Alone they are ordinary words, of products, orders and countries.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from otel_audit.redaction.marks import Marker

__all__ = ["mask_callbacks", "secret_in_query", "secret_in_route"]

_SUSPECT: Final = re.compile(r"(?:code|state|sig|signature|samlart)=", re.IGNORECASE)
#: A path to which an identity provider sends the browser back.
_CALLBACK_PATH: Final = re.compile(
    r"callback|oauth|openid|oidc|saml|sso|/(?:complete|connect|authorize|redirect|login|signin|sign-in|auth)(?:/|\Z)",
    re.IGNORECASE,
)
_OAUTH: Final = frozenset(
    ["redirect_uri", "code_verifier", "grant_type", "client_id", "session_state", "iss", "authuser", "id_token"]
)
_OAUTH_SECRETS: Final = frozenset({"code", "state"})
#: What beside it shows that a signature opens a link: of Azure, of S3, CloudFront and Google.
_SIGNED: Final = (
    ("sig", frozenset({"sv", "se", "sp", "srt"})),
    ("signature", frozenset({"expires", "key-pair-id", "awsaccesskeyid", "googleaccessid", "policy"})),
)
_LONG: Final = 8  # characters; codes and states by chance are shorter
_IN_TEXT: Final = re.compile(r"([?&;](?:code|state)=)([^&;#\s\"'<>\\]{8,1024})", re.IGNORECASE)
_CODE_IN_TEXT: Final = re.compile(r"[?&;]code=[^&;#\s\"'<>\\]{8}")
_STATE_IN_TEXT: Final = re.compile(r"[?&;]state=[^&;#\s\"'<>\\]{8}")

_ROUTE_NAMES: Final = frozenset({"key", "code", "hash", "sig", "signature", "signed", "nonce"})
_CONFIRMING: Final = re.compile(r"reset|confirm|activat|verif|invit|magic|recover|unsubscri", re.IGNORECASE)


def secret_in_query(query: str, path: str) -> frozenset[str]:
    """Return, in lower case, the names whose values are secrets in ``query`` because of what stands beside them.

    Args:
        query: a query string or form, already percent-decoded or not.
        path: where it was sent to; empty where that is not known.
    """
    if _SUSPECT.search(query) is None:
        return frozenset()
    pairs = {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
    secret = {name for name, beside in _SIGNED if name in pairs and not beside.isdisjoint(pairs)}
    secret |= {"samlart"} & pairs.keys()
    if (path and _CALLBACK_PATH.search(path)) or ("code" in pairs and not _OAUTH.isdisjoint(pairs)):
        return _OAUTH_SECRETS | secret
    if min(len(pairs.get("code", "")), len(pairs.get("state", ""))) >= _LONG:
        return _OAUTH_SECRETS | secret
    return frozenset(secret)


def mask_callbacks(text: str, lower: str, marker: Marker) -> str:
    """Return ``text`` with code and state masked in the addresses in it that have both.

    Args:
        text: any text.
        lower: the same with ASCII letters in lower case.
        marker: makes what stands in their place.
    """
    if _CODE_IN_TEXT.search(lower) is None or _STATE_IN_TEXT.search(lower) is None:
        return text
    return _IN_TEXT.sub(lambda found: f"{found[1]}{marker.mark(found[2])}", text)


def secret_in_route(name: str, route: str) -> bool:
    """Whether a route parameter with an ordinary name holds a secret: ``confirm-email/<key>/``."""
    return name.lower() in _ROUTE_NAMES and _CONFIRMING.search(route) is not None
