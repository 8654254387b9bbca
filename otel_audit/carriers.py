"""A process that goes on elsewhere: what another service, task or process is told of it, and how it takes up there."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from itertools import count
from typing import Any, Final

from django.core import signing
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.exceptions import CarrierError
from otel_audit.processes import Process
from otel_audit.scope import Note, current_actor, current_note, current_request

__all__ = ["CARRIER_KEY", "CARRIER_MAX_AGE_S", "CARRIER_SALT", "Resumed", "carrier", "resume"]

#: With dashes, as a carrier may travel as the headers of a request.
CARRIER_KEY: Final = "otel-audit"
CARRIER_SALT: Final = "otel_audit.carrier"
#: A carrier older than this is refused: work that waits longer begins a process of its own.
CARRIER_MAX_AGE_S: Final = 7 * 24 * 3600


class Resumed(Process):
    """A process that began elsewhere: its steps here belong to the row there. Has no row of its own."""

    def __init__(self, note: Note | None, parent: otel_context.Context) -> None:
        super().__init__("", {}, {})
        self._resumed = note
        self._elsewhere = parent

    def begin(self, *, make_current: bool = True) -> None:
        """Make the process elsewhere the one that encloses what follows."""
        if not conf.enabled or self._resumed is None:
            return
        self._note = self._resumed
        self._span = trace.get_current_span(self._elsewhere)
        self._outer = current_note.get()
        current_note.set(self._note)
        self._token = otel_context.attach(self._elsewhere)

    def end(self, error: BaseException | None = None, *, end_time_ns: int | None = None) -> None:
        """Leave the process; how it ended is told by its steps."""
        if self._note is not None:
            self._leave(self._note)


def carrier(running: Process) -> dict[str, str]:
    """Return what another service, task or process needs to `resume` a process: signed, JSON-able, valid for a week.

    It is a dict of texts: the arguments of a task, or the headers of a request to a service that has this one among its
    ``TRUSTED_PEERS`` and goes on by itself.

    Of a process that is not recorded it carries that alone, so that `resume` works and records no process.
    """
    headers: dict[str, str] = {}
    payload: dict[str, Any] = {"process": None}
    if running.note is not None:
        TraceContextTextMapPropagator().inject(
            headers, trace.set_span_in_context(trace.NonRecordingSpan(running.span_context))
        )
        payload = {
            "process": running.note.process_id,
            "request": running.note.request_id,
            "order": next(running.note.steps),  # steps elsewhere are numbered on from here
            **headers,
        }
    return {CARRIER_KEY: signing.dumps(payload, salt=CARRIER_SALT), **headers}


def resume(carried: Mapping[str, str]) -> Resumed:
    """Continue a process that began elsewhere: steps inside the block belong to it.

    Raises:
        CarrierError: ``carried`` was not made by `carrier` with this site's ``SECRET_KEY``, or is older than a week.
    """
    if not conf.enabled:
        return Resumed(None, otel_context.get_current())
    payload = _payload(carried)
    context = TraceContextTextMapPropagator().extract(payload, otel_context.get_current())
    if payload["process"] is None:
        return Resumed(None, context)
    note = Note(
        keys.KIND_PROCESS,
        payload["process"],
        scope=current_request.get(),
        request_id=payload["request"],
        process_id=payload["process"],
        ambient=current_actor.get(),
        steps=count(payload["order"]),
    )
    return Resumed(note, context)


def _payload(carried: Mapping[str, str]) -> dict[str, Any]:
    signed = carried.get(CARRIER_KEY) if isinstance(carried, Mapping) else None
    if not isinstance(signed, str):
        raise CarrierError(
            f"resume() got {reprlib.repr(carried)} without a text under {CARRIER_KEY!r}; "
            "give it the dict that carrier() returned."
        )
    try:
        payload: dict[str, Any] = signing.loads(signed, salt=CARRIER_SALT, max_age=CARRIER_MAX_AGE_S)
    except signing.SignatureExpired:
        raise CarrierError("resume() got a carrier older than a week; begin a process of its own instead.") from None
    except signing.BadSignature:
        raise CarrierError(
            "resume() got a carrier that this site did not sign; both services need the same SECRET_KEY."
        ) from None
    return payload
