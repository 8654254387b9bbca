"""Marks fields of a model, serializer or form as sensitive, where they are defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["sensitive", "sensitive_names"]

T = TypeVar("T", bound=type)


class _Marked:
    """The names marked so far; imports of models and serializers add to them."""

    names: frozenset[str] = frozenset()


def sensitive(*fields: str) -> Callable[[T], T]:
    """Decorate a class of which ``fields`` are never stored or forwarded in clear.

    The names count from then on wherever they stand, in any spelling, as those of ``OTEL_AUDIT["REDACT"]`` do::

        @sensitive("diagnosis", "salary")
        class Patient(models.Model): ...

    Args:
        fields: names of its fields.
    """

    def mark(found: T) -> T:
        _Marked.names |= frozenset(fields)
        return found

    return mark


def sensitive_names() -> frozenset[str]:
    """Return the names that were marked so far; the same object until one is added."""
    return _Marked.names
