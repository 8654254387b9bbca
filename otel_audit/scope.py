"""What encloses the code that runs now: the request, process and step whose records it belongs to.

Emitters set it, the span processor reads it when a span starts. It stands beside OpenTelemetry's context, as
extracting an inbound ``traceparent`` replaces that context whole. Each span that was recognised carries its `Note`,
so that a child finds its ancestors although an ordinary span stands between, and nothing leaks when a span never ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from weakref import ref

__all__ = [
    "Actor",
    "Note",
    "Scope",
    "current_actor",
    "current_note",
    "current_request",
    "events_of",
    "note_of",
    "set_note",
]

_NOTE_ATTRIBUTE = "_otel_audit_note"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted: the key as text (None: anonymous), a name and a type (``user``, ``service``, ``system``)."""

    id: str | None
    name: str
    type: str


class Scope:
    """The request being served: its record id and what the guard learns on the way.

    Subclassed by the guard; the exporter needs no more than the id and the actor.
    """

    record_id: str
    #: The span of the request where it is one of our own provider: nothing finds it as the current one.
    private_span: Any = None
    _finished = False
    _served_by: int | None = None
    _recorded_inside: frozenset[str] = frozenset()

    @property
    def finished(self) -> bool:
        """Whether nobody delivers the records of this request any more: its own is out, or this is a forked child."""
        return self._finished or self._served_by not in (None, os.getpid())

    def serve(self) -> None:
        """Begin: until `finish`, the guard of this process delivers what the request records."""
        self._served_by = os.getpid()

    def finish(self) -> None:
        """End: what is recorded from here on is delivered by who records it."""
        self._finished = True

    def recorded(self, what: str) -> None:
        """Note that a record inside this request, of the kind ``what``, links to the request's own."""
        if what not in self._recorded_inside:
            self._recorded_inside |= {what}

    def server_span_started(self, span: Any) -> None:
        """Take the SERVER span that the site's instrumentation started for this request."""
        raise NotImplementedError

    def actor(self) -> Actor | None:
        """Return who the view acts as, as far as that is known now without asking a database."""
        raise NotImplementedError


@dataclass(slots=True)
class Note:
    """What was known when a process or step span started.

    Ids are UUIDv7 as text. ``facts`` holds what travels beside the span, ``steps`` numbers the steps of a process.
    ``clock_ns`` is the monotonic clock at the start, 0 where the start was said to be another time. ``private_span``
    refers to the span where that is one of our own provider.
    """

    kind: str
    record_id: str
    scope: Scope | None = None
    request_id: str | None = None
    process_id: str | None = None
    step_id: str | None = None
    order: int | None = None
    ambient: Actor | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    steps: Iterator[int] = field(default_factory=lambda: count(1))
    clock_ns: int = 0
    private_span: ref[Any] | None = None

    def actor(self) -> Actor | None:
        """Return who acts: the one named by ``actor()``, else who the view acts as."""
        if self.ambient is not None:
            return self.ambient
        return None if self.scope is None else self.scope.actor()


current_request: ContextVar[Scope | None] = ContextVar("otel_audit_request", default=None)
current_note: ContextVar[Note | None] = ContextVar("otel_audit_note", default=None)
current_actor: ContextVar[Actor | None] = ContextVar("otel_audit_actor", default=None)


def note_of(span: Any) -> Note | None:
    """Return the note of a live span, or None where there is none."""
    return getattr(span, _NOTE_ATTRIBUTE, None)


def set_note(span: Any, note: Note) -> None:
    """Attach ``note`` to a live span."""
    setattr(span, _NOTE_ATTRIBUTE, note)


def events_of(span: Any) -> Sequence[Any]:
    """Return the events of a span, living or ended.

    The SDK's property copies them under a lock each time, while a request's span is asked several times and mostly
    has none. The field is private; without it the property is asked.
    """
    held = getattr(span, "_events", None)
    return () if held is not None and not held else getattr(span, "events", ())
