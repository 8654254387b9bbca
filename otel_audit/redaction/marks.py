"""What stands in the place of a secret: ``[redacted]``, or with keys ``[redacted:<key id>:<32 hex digits>]``.

The digits are a keyed hash (HMAC-SHA-256) of the secret: who has the key and a value can find every record that held
that value, and nobody can guess a PIN from them without the key. The first key marks, the others are still looked for,
so that keys can be changed.
"""

from __future__ import annotations

import hmac
import html
import json
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["KEY_ID", "MASK", "MIN_KEY", "Marker", "is_mark", "mark_at"]

#: What stands in the place of a secret where there is no key.
MASK: Final = "[redacted]"
#: What names a key.
KEY_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,15})")
#: A key has at least so many bytes.
MIN_KEY: Final = 16

_MARK: Final = re.compile(r"\[redacted(?::[a-z0-9-]{1,16}:[0-9a-f]{32})?\]")
#: Where one is taken for what stands in the place of a value: what follows it belongs to no value.
_MARK_ALONE: Final = re.compile(_MARK.pattern + r"(?=\Z|[\s,;&\"'<>)\]}\\])")
_MAX_LAYERS: Final = 4  # JSON in a JSON string in a JSON string …
_SCHEME: Final = re.compile(r"\A(?:bearer|basic|token|jwt|digest) +(?=\S)", re.IGNORECASE)
_GROUPED: Final = re.compile(r"[0-9][0-9 \-]{11,22}[0-9]")


def is_mark(text: str) -> bool:
    """Whether ``text`` is what this module writes in the place of a secret."""
    return _MARK.fullmatch(text) is not None


def mark_at(text: str, position: int) -> bool:
    """Whether a mark begins at ``position``, with nothing that belongs to it behind it."""
    return text.startswith("[redacted", position) and _MARK_ALONE.match(text, position) is not None


class Marker:
    """Makes marks; immutable and thread-safe.

    Args:
        keys: key id → key; the first one marks. Without any, every mark is ``[redacted]``.
    """

    def __init__(self, keys: Mapping[str, bytes] | None = None) -> None:
        self._keys = dict(keys or {})
        #: Whether the value of a secret counts at all.
        self.keyed = bool(self._keys)
        self._first = next(iter(self._keys.items()), None)

    def mark(self, secret: str) -> str:
        """Return what stands in the place of ``secret``, as it stands in a text."""
        if self._first is None:
            return MASK
        if secret.startswith("[redacted") and is_mark(secret):
            return secret
        return _mark(*self._first, _canonical(secret))

    def all(self, secret: str) -> list[str]:
        """Return the mark of ``secret`` by each key, the one in use first."""
        value = _canonical(secret)
        return [_mark(name, key, value) for name, key in self._keys.items()]


def _mark(name: str, key: bytes, value: str) -> str:
    digest = hmac.digest(key, value.encode("utf-8", "surrogatepass"), "sha256")
    return f"[redacted:{name}:{digest[:16].hex()}]"


def _canonical(secret: str) -> str:
    """Return one text for all ways to write the same secret: escaped, with its scheme, as a number in groups.

    It may make two values one, never one value two.
    """
    for _ in range(_MAX_LAYERS if "\\" in secret or "&" in secret else 0):
        plain = html.unescape(_unescaped(secret))
        if plain == secret:
            break
        secret = plain
    secret = secret.strip()
    if " " in secret:
        secret = _SCHEME.sub("", secret, count=1)
    if secret[:1].isdigit() and _GROUPED.fullmatch(secret) is not None:
        return secret.replace(" ", "").replace("-", "")
    if secret[:1] in ("[", "{"):
        try:
            return json.dumps(json.loads(secret), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        except (ValueError, RecursionError):
            return secret
    return secret


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        found = json.loads(f'"{text}"', strict=False)
    except ValueError:
        return text
    return str(found)
