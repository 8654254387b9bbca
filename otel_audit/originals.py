"""Says what a value was that could not be stored as it is: its size, and a hash that tells whether somebody else's copy
is the same.

``changed_fields`` gets ``<column>:size=<bytes>`` and ``<column>:sha256=<hex>``. There is no hash of a text from which a
secret was masked: with all the rest of the text at hand it would tell a PIN after 10,000 guesses.
"""

from __future__ import annotations

import hashlib

__all__ = ["original", "original_text"]


def original(column: str, size: int, sha256: str | None) -> list[str]:
    """Return what ``changed_fields`` says of a value of ``size`` bytes; ``sha256`` is None where it may not be told."""
    return [f"{column}:size={size}", *([] if sha256 is None else [f"{column}:sha256={sha256}"])]


def original_text(column: str, text: str) -> list[str]:
    """Return what ``changed_fields`` says of a text that was cut or escaped after its secrets were masked."""
    data = text.encode("utf-8", "surrogatepass")
    return original(column, len(data), hashlib.sha256(data).hexdigest())
