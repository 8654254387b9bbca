"""What the audit trail holds, as a table for the terminal. Needs Django to be set up."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from otel_audit.models import (
    AuditEvent,
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit.outcomes import processes_with_outcome, steps_with_outcome

Cells = tuple[str, ...]

MODELS = (RequestAuditEvent, LoginAuditEvent, ProcessAuditEvent, StepAuditEvent, RegistrationAuditEvent)
COLUMNS = ("KIND", "ACTOR", "ACTION", "OUTCOME", "STATUS", "DURATION", "TRACE ID")
WIDTHS = (14, 10, 40, 10, 6, 10, 32)


def wait_for_requests(expected: int, since: datetime, timeout: float) -> int:
    """Wait until ``expected`` requests are in the audit database and nothing more arrives, ``timeout`` seconds at most.

    Returns:
        How many requests are there.
    """
    deadline = time.monotonic() + timeout
    before = -1
    while time.monotonic() < deadline:
        counted = sum(_since(model, since).count() for model in MODELS)
        if counted == before and _since(RequestAuditEvent, since).count() >= expected:
            break
        before = counted
        time.sleep(0.2)
    return _since(RequestAuditEvent, since).count()


def table(since: datetime) -> str:
    """Return everything that was recorded since ``since``, oldest first, below its request."""
    lines = [_line(COLUMNS), _line(tuple("─" * width for width in WIDTHS))]
    lines += [_line(cells) for cells in _rows(since)]
    return "\n".join(lines)


def totals(since: datetime) -> str:
    """Return how many rows of each kind were recorded since ``since``, as a sentence's list."""
    counted = [(_since(model, since).count(), model._meta.verbose_name_plural) for model in MODELS]
    return ", ".join(f"{number} {name}".lower() for number, name in counted)


def _rows(since: datetime) -> Iterator[Cells]:
    for request in _since(RequestAuditEvent, since):
        action = f"{request.method} {request.url}"
        yield _cells("request", request, action, request.outcome, str(request.status_code), request.response_time)
        for login in request.logins.order_by("id"):
            yield _cells("  sign-in", login, _login_action(login), login.outcome)
        for process in processes_with_outcome(request.processes.order_by("id")):
            yield from _process_rows(process)


def _process_rows(process: Any) -> Iterator[Cells]:
    """How a process and its steps ended is derived from what they registered, as in the admin and the report."""
    yield _cells("  process", process, process.name, process.derived_outcome, "", process.duration_ms)
    for step in steps_with_outcome(process.steps.order_by("order", "id")):
        yield _cells("    step", step, step.name, step.derived_outcome, "", step.duration_ms)
        for registration in step.registrations.order_by("datetime", "id"):
            yield _cells("      result", registration, registration.name, registration.outcome)
        for _ in range(step.arrived, step.total_registrations):
            yield _cells("      result", step, "No registration", "")


def _login_action(login: LoginAuditEvent) -> str:
    attempted = f" as {login.username!r}" if login.status == login.FAILED and login.username else ""
    return f"{login.status}{attempted} ({login.method})"


def _cells(kind: str, row: Any, action: str, outcome: str, status: str = "", ms: float | None = None) -> Cells:
    key = row.user if isinstance(row, RequestAuditEvent | LoginAuditEvent) else row.created_by
    actor = row.actor_name or f"{row.actor_type} {key or ''}"
    duration = "" if ms is None else f"{ms:.1f} ms"
    return (kind, actor, action, outcome, status, duration, row.trace_id)


def _line(cells: Cells) -> str:
    fitted = [
        f"{cell if len(cell) <= width else cell[: width - 1] + '…':<{width}}"
        for cell, width in zip(cells, WIDTHS, strict=True)
    ]
    return " ".join(fitted).rstrip()


def _since(model: type[AuditEvent], since: datetime) -> Any:
    return model.objects.filter(datetime__gte=since).order_by("id")
