"""The class API for processes that ``drf-audit-trail`` users know; underneath it starts spans and adds span events.

    class CreateProductProcessAudit(ProcessAudit):
        def create_process(self):
            return self.save_model(ProcessAuditEvent(name="Create product"))
        def create_steps(self, process):
            self.validation = self.save_model(StepAuditEvent(name="Validate", order=1, process=process))

Nothing is saved here: the exporter writes the rows, with the keys that the instances have already. The process and
step spans end with the request at the latest.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, TypeVar

from django.core.exceptions import SynchronousOnlyOperation

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.delivery import delivery
from otel_audit.edges import edge
from otel_audit.processes import Process, Step, emit_registration
from otel_audit.request_scope import RequestScope, scope_of
from otel_audit.scope import Actor, Note, current_request

__all__ = ["ProcessAudit"]

_M = TypeVar("_M")
_PROCESS = "processauditevent"
_STEP = "stepauditevent"
_REGISTRATION = "registrationauditevent"


class ProcessAudit:
    """A process audited as its class says; override `create_process` and `create_steps`.

    Args:
        request: the Django or DRF request, to whose row the process links; None outside a request.
    """

    def __init__(self, request: Any = None) -> None:
        self.request = request
        self._spans: dict[Any, Process | Step] = {}
        self._last_registered_ns: dict[Any, int] = {}
        self._process = self.create_process()
        if getattr(getattr(self._process, "_meta", None), "model_name", None) != _PROCESS:
            raise TypeError(
                f"{type(self).__name__}.create_process() returned {self._process!r}; return the ProcessAuditEvent "
                "that save_model() gives back."
            )
        if request is not None:
            getattr(request, "_request", request).META["process_audit_event"] = self._process
        self.create_steps(self._process)

    def create_process(self) -> Any:
        """Return ``self.save_model(ProcessAuditEvent(name=…))``."""
        raise NotImplementedError(f"{type(self).__name__} needs create_process(); see otel_audit.process_audit.")

    def create_steps(self, process: Any) -> None:
        """Create the steps: ``self.save_model(StepAuditEvent(name=…, order=1, process=process))``."""

    def save_model(self, model: _M) -> _M:
        """Record a process, step or registration event; return it with its key and ``created_by`` set."""
        instance: Any = model
        with edge("ProcessAudit.save_model"):
            kind = instance._meta.model_name
            if kind not in (_PROCESS, _STEP, _REGISTRATION):
                raise TypeError(f"save_model() got {model!r}; give it a process, step or registration event.")
            named = instance.created_by
            if not named:
                instance.created_by = self._signed_in()
            acting = Actor(str(named), str(named), keys.ACTOR_USER) if named else None
            if kind == _REGISTRATION:
                self._register(instance, acting)
            else:
                self._begin(instance, acting)
        return model

    def close(self, scope: RequestScope | None = None) -> None:
        """End the spans that are still open; the guard does it when the request ends."""
        error = scope.error if scope is not None else None
        for key in reversed(list(self._spans)):
            running = self._spans.pop(key)
            running.end(
                error if running.kind == keys.KIND_PROCESS else None,
                end_time_ns=self._last_registered_ns.get(key),
            )

    def _signed_in(self) -> str | None:
        """Return the key of the signed-in user; in an event loop only where somebody has asked for it already."""
        scope = scope_of(self.request) if self.request is not None else None
        actor = scope.actor() if scope is not None else None
        if actor is not None:
            return actor.id
        try:
            user = getattr(self.request, "user", None)
            return str(user.pk) if user is not None and user.is_authenticated else None
        except SynchronousOnlyOperation:
            return None  # the row has it: the guard resolves it

    def _begin(self, instance: Any, acting: Actor | None) -> None:
        kind = Step if instance._meta.model_name == _STEP else Process
        running = kind(instance.name or "", self._attributes(instance), self._extra(instance))
        parent = self._spans.get(getattr(instance, "process_id", None))
        if isinstance(parent, Process):
            running.of(parent)
        running.begin(make_current=False)
        if running.note is not None and acting is not None:
            running.note.ambient = acting
        self._spans[instance.pk] = running
        scope = scope_of(self.request) if self.request is not None else None
        if scope is None or scope.finished:
            running.end()
            delivery().pump().wait()
        elif self.close not in scope.at_exit:
            scope.at_exit.append(self.close)

    def _register(self, instance: Any, acting: Actor | None) -> None:
        if not conf.enabled:
            return
        running = self._spans.get(instance.step_id)
        note, span = (running.note, running.span) if running is not None else (None, None)
        if note is None:
            step_id = None if instance.step_id is None else str(instance.step_id)
            note = Note(keys.KIND_STEP, step_id or "", scope=current_request.get(), step_id=step_id)
        emit_registration(
            note if acting is None else replace(note, ambient=acting),
            span,
            success=bool(instance.success),
            name=instance.name or "",
            description=instance.description or "",
            extra=self._extra(instance),
            id=str(instance.pk),
        )
        self._last_registered_ns[instance.step_id] = time.time_ns()

    @staticmethod
    def _attributes(instance: Any) -> dict[str, Any]:
        given = {keys.AUDIT_RECORD_ID: str(instance.pk)}
        if instance._meta.model_name == _STEP:
            given[keys.AUDIT_STEP_ORDER] = instance.order
            given[keys.AUDIT_STEP_EXPECTED] = instance.total_registrations
            given[keys.AUDIT_STEP_DESCRIPTION] = instance.description
        else:
            given[keys.AUDIT_PROCESS_DESCRIPTION] = instance.description
        return given

    @staticmethod
    def _extra(instance: Any) -> dict[str, Any]:
        extra = instance.extra_informations
        if not extra:
            return {}
        return dict(extra) if isinstance(extra, dict) else {"extra_informations": extra}
