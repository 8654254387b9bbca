"""Keyed hashes: who has no ``SECRET_KEY`` of the site finds nothing behind them, and the same is always the same."""

from __future__ import annotations

import hmac
import re
from functools import lru_cache
from hashlib import sha256
from typing import Final

from django.conf import settings
from django.utils.crypto import salted_hmac
from django.utils.encoding import force_bytes

__all__ = ["actor_hash", "fingerprint", "is_fingerprint"]

#: Hexadecimal digits of a hash: 128 bits.
_LENGTH: Final = 32
_SALT: Final = b"otel_audit.session"
_FORM: Final = re.compile(r"[0-9a-f]{32}")


def fingerprint(secret: str) -> str:
    """Return the hash of what a client holds: a session's key, a token's identity."""
    return _fingerprint(settings.SECRET_KEY, secret)


def is_fingerprint(text: object) -> bool:
    """Whether ``text`` has the form of a fingerprint, which no key of Django's sessions has."""
    return isinstance(text, str) and _FORM.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def actor_hash(key: str) -> str:
    """Return the hash of an actor's key."""
    return salted_hmac("otel_audit.otlp.actor", key, algorithm="sha256").hexdigest()[:_LENGTH]


@lru_cache(maxsize=4096)  # a session has many requests, and finding the algorithm takes OpenSSL longer than the hash
def _fingerprint(key: str | bytes, secret: str) -> str:
    return hmac.digest(_key(key), secret.encode("utf-8", "surrogatepass"), "sha256").hex()[:_LENGTH]


@lru_cache(maxsize=2)
def _key(secret: str | bytes) -> bytes:
    return sha256(_SALT + force_bytes(secret)).digest()
