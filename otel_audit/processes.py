"""Business processes as spans: context managers and decorators, sync and async, for ``process`` and ``step``.

    with process("Create product", sku="A-1") as p:
        with p.step("Validate", expect=2) as s:
            s.register(True, "code ok")

Each is a real span of the site's tracer provider, or a private one where that does not record. A registration emits a
record of its own; the span event is the trace's copy, so span limits cost nothing.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import ref

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanContext, Status, StatusCode

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.delivery import delivery
from otel_audit.edges import edge
from otel_audit.exception_facts import describe_exception
from otel_audit.ids import record_id
from otel_audit.provider import private_tracer, site_tracer
from otel_audit.scope import Actor, Note, current_actor, current_note, current_request, note_of

__all__ = [
    "Process",
    "Step",
    "actor",
    "process",
    "step",
]

_F = TypeVar("_F", bound=Callable[..., Any])


class _Recorded:
    """What process and step share: a span, a note, and an exit that records how it ended."""

    kind: str

    def __init__(self, name: str, attributes: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        self.name = str(name)
        self._attributes = {
            keys.AUDIT_KIND: self.kind,
            **{k: v for k, v in attributes.items() if v not in (None, "")},
        }
        self._extra = dict(extra)
        self._span: Span = trace.INVALID_SPAN
        self._note: Note | None = None
        self._parent: Process | None = None
        self._outer: Note | None = None
        self._token: Any = None

    @property
    def id(self) -> str | None:
        """The record id (UUIDv7 text) once begun; None before, and where nothing is recorded."""
        return self._note.record_id if self._note is not None else None

    @property
    def note(self) -> Note | None:
        """What was noted when the span started."""
        return self._note

    @property
    def span(self) -> Span:
        """The OpenTelemetry span; an invalid one before it begins."""
        return self._span

    @property
    def span_context(self) -> SpanContext:
        """The OpenTelemetry context of the span; invalid before it begins."""
        return self._span.get_span_context()

    def set_extra(self, **extra: Any) -> None:
        """Add to the record's ``extra_informations``."""
        self._extra.update(extra)
        if self._note is not None:
            self._note.facts["extra"] = conf.redactor.value(self._extra)

    def begin(self, *, make_current: bool = True) -> None:
        """Start the span; ``with`` does it for you."""
        if not conf.enabled:
            return
        with edge(f"{self.kind}.begin"):
            delivery().start()
            outer, context = current_note.get(), self._enter_parent()
            try:
                self._span, self._note, recorded_by_site = _start_span(self.name, self._attributes, context)
            finally:
                current_note.set(outer)
            if self._extra:
                self._note.facts["extra"] = conf.redactor.value(self._extra)
            if make_current:
                self._outer = outer
                current_note.set(self._note)
                if recorded_by_site:
                    self._token = otel_context.attach(trace.set_span_in_context(self._span))

    def end(self, error: BaseException | None = None, *, end_time_ns: int | None = None) -> None:
        """End the span, as failed when ``error`` is given; ``with`` does it for you."""
        note = self._note
        if note is None:
            return
        with edge(f"{self.kind}.end"):
            if self._span.is_recording():
                if error is not None:
                    note.facts["error"] = describe_exception(error)
                    self._span.set_attribute(keys.ERROR_TYPE, note.facts["error"]["type"])
                    self._span.set_status(Status(StatusCode.ERROR))
                self._span.end(end_time_ns)
            self._leave(note)

    def _enter_parent(self) -> otel_context.Context | None:
        """Make the process that this step was asked from the enclosing one, where the code runs outside of it."""
        parent = self._parent
        if parent is None or parent.note is None:
            return None
        enclosing = note_of(trace.get_current_span()) or current_note.get()
        if enclosing is not None and enclosing.process_id == parent.note.process_id:
            return None
        current_note.set(parent.note)
        return trace.set_span_in_context(parent.span)

    def _leave(self, note: Note) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = None
        if current_note.get() is note:
            current_note.set(self._outer)

    def _outside_request(self) -> bool:
        return self._note is not None and (self._note.scope is None or self._note.scope.finished)

    def __enter__(self) -> Any:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self.end(error)
        if self._outside_request():
            delivery().pump().wait()

    async def __aenter__(self) -> Any:
        self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self.end(error)
        if self._outside_request():
            receipt = await asyncio.to_thread(delivery().pump)
            await receipt.wait_async()

    def __call__(self, function: _F) -> _F:
        """Decorate a function, sync or async: each call is a new process or step."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                async with self._again():
                    return await function(*args, **kwargs)

            return run_async  # type: ignore[return-value]  # same signature, kept by functools.wraps

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]  # same signature, kept by functools.wraps

    def of(self, parent: Process | None) -> Self:
        """Make ``parent`` the process that this belongs to, wherever it runs; return this."""
        self._parent = parent
        return self

    def _again(self) -> _Recorded:
        return type(self)(self.name, self._attributes, self._extra).of(self._parent)


class Step(_Recorded):
    """A step of a process; see `step`."""

    kind = keys.KIND_STEP

    def register(self, success: bool, name: str = "", description: str = "", **extra: Any) -> str | None:
        """Register one fact: something was checked or done.

        Args:
            success: whether it went well.
            name: what it was.
            description: more about it, stored but not forwarded.
            extra: further facts for ``extra_informations``.

        Returns:
            The record id, or None where nothing is recorded.
        """
        if self._note is None:
            return None
        with edge("step.register"):
            return emit_registration(
                self._note, self._span, success=success, name=name, description=description, extra=extra
            )
        return None


class Process(_Recorded):
    """A business process; see `process`."""

    kind = keys.KIND_PROCESS

    def step(self, name: str, expect: int = 1, order: int | None = None, description: str = "", **extra: Any) -> Step:
        """Return a step of this process, wherever it runs; see the function `step`."""
        return step(name, expect, order, description, **extra).of(self)


def process(name: str, description: str = "", **extra: Any) -> Process:
    """Record a business process: a context manager and decorator, sync and async.

    Args:
        name: what the process is, the same for every run of it.
        description: more about this run.
        extra: further facts for ``extra_informations``, redacted, forwarded at the level ``"full"`` alone.
    """
    return Process(name, {keys.AUDIT_PROCESS_DESCRIPTION: description}, extra)


def step(name: str, expect: int = 1, order: int | None = None, description: str = "", **extra: Any) -> Step:
    """Record a step of the current process: a context manager and decorator, sync and async.

    Args:
        name: what the step is.
        expect: how many registrations it makes when all goes well.
        order: its place in the process, from 1; by default in the order of starting.
        description: more about it.
        extra: further facts for ``extra_informations``, redacted, forwarded at the level ``"full"`` alone.
    """
    attributes = {
        keys.AUDIT_STEP_EXPECTED: expect,
        keys.AUDIT_STEP_ORDER: order,
        keys.AUDIT_STEP_DESCRIPTION: description,
    }
    return Step(name, attributes, extra)


def emit_registration(
    note: Note,
    span: Span | None,
    *,
    success: bool,
    name: str,
    description: str,
    extra: Mapping[str, Any],
    id: str | None = None,  # noqa: A002  # the record's id
) -> str:
    """Emit one registration inside ``note`` and copy it to ``span`` as an event; return its record id."""
    now = time.time_ns()
    registration_id = id or record_id(now)
    redactor = conf.redactor
    name = redactor.text(str(name))
    span = span if span is not None else trace.INVALID_SPAN
    if span.is_recording():
        span.add_event(
            keys.EVENT_REGISTRATION,
            {
                keys.AUDIT_REGISTRATION_NAME: name,
                keys.AUDIT_REGISTRATION_SUCCESS: bool(success),
                keys.AUDIT_RECORD_ID: registration_id,
            },
            timestamp=now,
        )
    facts = {
        "at": str(now),
        "name": name,
        "success": bool(success),
        "description": redactor.text(str(description)) if description else "",
        "extra": redactor.value(dict(extra)) if extra else None,
    }
    ids = {"request": note.request_id, "process": note.process_id, "step": note.step_id}
    delivery().event("registration", registration_id, ids, facts, note, span.get_span_context())
    return registration_id


@contextmanager
def actor(type: str, name: str) -> Iterator[Actor]:  # noqa: A002  # the draft's word: audit.actor.type
    """Say who acts where there is no request: ``with actor("system", "nightly-import"):``.

    Args:
        type: ``"user"``, ``"service"`` or ``"system"``.
        name: stored as the actor's key and name.
    """
    name = conf.redactor.text(str(name))
    who = Actor(name, name, type)
    token = current_actor.set(who)
    try:
        yield who
    finally:
        current_actor.reset(token)


def _start_span(
    name: str, attributes: Mapping[str, Any], context: otel_context.Context | None
) -> tuple[Span, Note, bool]:
    """Start a span of the site's provider, or a private one; return it, its note, and whether it is the site's."""
    span = site_tracer().start_span(name, context, attributes=attributes, record_exception=False)
    note = note_of(span)
    if span.is_recording() and note is not None:
        return span, note, True
    parent = _private_parent() if context is None else None
    if parent is not None:
        context = trace.set_span_in_context(parent)
    span = private_tracer().start_span(name, context, attributes=attributes, record_exception=False)
    note = note_of(span)
    if note is None:
        raise RuntimeError("the private tracer has no audit span processor; is 'otel_audit' in INSTALLED_APPS?")
    note.private_span = ref(span)
    return span, note, False


def _private_parent() -> Any:
    """Return the span of our own provider that encloses the code that runs, or None: it was never made current."""
    enclosing, scope = current_note.get(), current_request.get()
    if enclosing is not None and enclosing.private_span is not None:
        return enclosing.private_span()
    return None if scope is None else scope.private_span
