"""What is stored of a token.

It is 256 random bits: nobody finds it from its SHA-256, and a slow hash would protect no more.
"""

from __future__ import annotations

import hashlib

__all__ = ["certificate_hash", "token_hash"]


def token_hash(token: str) -> str:
    """Return what is stored of ``token``."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def certificate_hash(name: str) -> str:
    """Return what is stored of the ``name`` of a certificate, in the same column: no token has a space in it."""
    return token_hash(f"certificate {name}")
