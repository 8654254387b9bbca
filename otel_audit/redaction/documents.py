"""Copies any Python object into something that is JSON, without its secrets.

The copy is bounded in depth and size, and nothing an object does while it is looked at – a ``repr`` that raises, an
integer too long to print – loses the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from otel_audit.redaction.names import Names
from otel_audit.redaction.patterns import MASK, card_number

__all__ = ["Copier"]

MAX_DEPTH: Final = 32
MAX_ITEMS: Final = 10_000
MAX_TEXT: Final = 65_536  # characters of one string
_EXACT: Final = 2**53  # up to here an integer survives a reader that has floats only
_LONGEST_INTEGER: Final = 10**4000  # Python refuses to print longer ones in decimal


class Copier:
    """Makes one copy; ``text`` masks the secrets that stand in strings."""

    def __init__(self, names: Names, text: Callable[[str], str]) -> None:
        self._names = names
        self._text = text
        self._left = MAX_ITEMS

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return a JSON-able copy of ``value``."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._string(str.__str__(value))
        if isinstance(value, int):
            return _integer(int.__int__(value))
        if isinstance(value, float):
            return _float(float.__float__(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._string(bytes(value[: MAX_TEXT * 4]).decode("utf-8", "backslashreplace"))
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            if depth >= MAX_DEPTH:
                return f"[cut: nested deeper than {MAX_DEPTH} levels]"
            return self._container(value, depth + 1)
        return self._string(_as_text(value))

    def _container(self, value: Any, depth: int) -> Any:
        try:
            if isinstance(value, Mapping):
                return self._mapping(value, depth)
            return self._items(value, depth)
        except Exception as error:  # noqa: BLE001  # iterating runs the object's own code
            return f"[unreadable {type(value).__name__}: {type(error).__name__}]"

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        lists = getattr(value, "lists", None)  # Django's QueryDict shows the last of several values only
        pairs: Iterable[tuple[Any, Any]] = lists() if callable(lists) else value.items()
        copy: dict[str, Any] = {}
        for key, item in pairs:
            if self._left <= 0:
                copy["[cut]"] = f"[cut: more than {MAX_ITEMS} items]"
                break
            self._left -= 1
            written = key if isinstance(key, str) else _as_text(key)
            name = self._string(str.__str__(written))
            while name in copy:
                name += "'"
            secret = (
                item is not None and not isinstance(item, bool) and item != "" and self._names.secret(written)
            )
            copy[name] = MASK if secret else self.copy(item, depth)
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

    def _string(self, text: str) -> str:
        if len(text) > MAX_TEXT:
            return f"{self._text(text[:MAX_TEXT])}… [cut: {len(text)} characters]"
        return self._text(text)


def _integer(value: int) -> int | str:
    if -_LONGEST_INTEGER < value < _LONGEST_INTEGER:
        if value > 0 and card_number(str(value)):
            return MASK
        return value if -_EXACT <= value <= _EXACT else str(value)
    return hex(value)[:MAX_TEXT]


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _as_text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  # str() runs the object's own code
        return f"[unprintable {type(value).__name__}: {type(error).__name__}]"
