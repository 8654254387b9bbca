"""Marks fields of a model, serializer or form as sensitive, where they are defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["MARKED", "Marked", "sensitive"]

T = TypeVar("T", bound=type)


class Marked:
    """The names marked so far; imports of models and serializers add to them."""

    def __init__(self) -> None:
        #: The same object until a name is added.
        self.names: frozenset[str] = frozenset()


MARKED: Final = Marked()


def sensitive(*fields: str) -> Callable[[T], T]:
    """Decorate a class of which ``fields`` are never stored or forwarded in clear.

    The names count from then on wherever they stand, in any spelling, as those of ``OTEL_AUDIT["REDACT"]`` do::

        @sensitive("diagnosis", "salary")
        class Patient(models.Model): ...

    Args:
        fields: names of its fields.
    """

    def mark(found: T) -> T:
        MARKED.names |= frozenset(fields)
        return found

    return mark
