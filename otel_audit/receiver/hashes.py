"""What is stored of a token.

It is 256 random bits: nobody finds it from its SHA-256, and a slow hash would protect no more.
"""

from __future__ import annotations

import hashlib

__all__ = ["token_hash"]


def token_hash(token: str) -> str:
    """Return what is stored of ``token``."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
