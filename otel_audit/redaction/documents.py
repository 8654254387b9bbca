"""Copies any Python object into something that is JSON, without its secrets.

The copy is bounded in depth and size, and nothing an object does while it is looked at (a ``repr`` that raises, an
integer too long to print) loses the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from otel_audit.redaction.engine import Engine
from otel_audit.redaction.patterns import card_number

__all__ = ["Copier"]

#: MariaDB takes no JSON that is nested 32 levels deep, and a row may have a copy inside two of its own.
MAX_DEPTH: Final = 28
MAX_ITEMS: Final = 10_000
MAX_TEXT: Final = 65_536  # characters of one string
#: Characters of all strings: what a view hands over may be as large as the body of its client, and is masked in the
#: request.
MAX_CHARACTERS: Final = 4 * MAX_TEXT
_EXACT: Final = 2**53  # up to here an integer survives a reader that has floats only
_LONGEST_INTEGER: Final = 10**4000  # Python refuses to print longer ones in decimal


class Copier:
    """Makes one copy; ``text`` masks the secrets that stand in strings, ``engine`` those in names."""

    def __init__(self, engine: Engine, text: Callable[[str], str]) -> None:
        self._text = text
        self._name = engine.mask
        self._secret = engine.names.secret
        self._mark = engine.marker.mark
        self._keyed = engine.marker.keyed
        self._left = MAX_ITEMS
        self._room = MAX_CHARACTERS

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return a JSON-able copy of ``value``."""
        try:
            return self._copy(value, depth)
        except BaseException as error:  # looking at an object runs its own code, which may want to end the process
            return f"[unreadable {type(value).__name__}: {type(error).__name__}]"

    def _copy(self, value: Any, depth: int) -> Any:
        kind = type(value)  # not isinstance(): a lazy object claims to be what it holds
        if kind is str:  # most are
            return self._string(value, self._text)
        if value is None or kind is bool:
            return value
        if issubclass(kind, (int, float)):
            return self._number(value)
        if not issubclass(kind, (Mapping, list, tuple, set, frozenset)):
            return self._string(_as_text(value), self._text)
        if depth >= MAX_DEPTH:
            return f"[cut: nested deeper than {MAX_DEPTH} levels]"
        copy = self._mapping if issubclass(kind, Mapping) else self._items
        return copy(value, depth + 1)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        # Django's QueryDict shows the last of several values only.
        lists = None if type(value) is dict else getattr(value, "lists", None)
        pairs: Iterable[tuple[Any, Any]] = lists() if callable(lists) else value.items()
        copy: dict[str, Any] = {}
        for key, item in pairs:
            if self._left <= 0:
                copy["[cut]"] = f"[cut: more than {MAX_ITEMS} items]"
                break
            self._left -= 1
            written = key if type(key) is str else _as_text(key)
            name = self._string(written, self._name)
            if name in copy:
                name += "'"
            while name in copy:
                name += str(len(copy))  # another one with each item: thousands of names may be one when masked
            secret = item is not None and not isinstance(item, bool) and item != "" and self._secret(written)
            copy[name] = self._masked(item) if secret else self.copy(item, depth)
        return copy

    def _items(self, value: Iterable[Any], depth: int) -> list[Any]:
        copy: list[Any] = []
        for item in value:
            if self._left <= 0:
                copy.append(f"[cut: more than {MAX_ITEMS} items]")
                break
            self._left -= 1
            copy.append(self.copy(item, depth))
        return copy

    def _masked(self, secret: Any) -> str:
        return self._mark(_whole(secret) if self._keyed else "")

    def _number(self, value: float) -> float | str:
        if isinstance(value, int):
            return self._integer(int.__int__(value))
        if math.isfinite(value):
            return float.__float__(value)
        if math.isnan(value):
            return "NaN"
        return "Infinity" if value > 0 else "-Infinity"

    def _integer(self, value: int) -> int | str:
        if not -_LONGEST_INTEGER < value < _LONGEST_INTEGER:
            return hex(value)[:MAX_TEXT]
        if value > 0 and card_number(written := str(value)):
            return self._mark(written)
        return value if -_EXACT <= value <= _EXACT else str(value)

    def _string(self, text: str, mask: Callable[[str], str]) -> str:
        length = len(text)
        if length <= MAX_TEXT and length <= self._room:
            self._room -= length
            return mask(text)
        limit = min(MAX_TEXT, self._room)
        self._room -= limit
        return f"{mask(text[:limit])}… [cut: {length} characters]"


def _whole(value: Any) -> str:
    """Return a secret of any type as the text of which its mark is made."""
    try:
        if isinstance(value, list | tuple) and len(value) == 1:
            return _whole(value[0])
        if isinstance(value, int):
            return str(int.__int__(value)) if -_LONGEST_INTEGER < value < _LONGEST_INTEGER else hex(value)
        if isinstance(value, Mapping | list | tuple):
            return json.dumps(value, default=str)
        return _as_text(value)
    except BaseException as error:  # as above
        return f"unreadable {type(value).__name__}: {type(error).__name__}"


def _as_text(value: Any) -> str:
    kind = type(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, (bytes, bytearray, memoryview)):
        return bytes(value[: MAX_TEXT * 4]).decode("utf-8", "backslashreplace")
    return str.__str__(str(value))
