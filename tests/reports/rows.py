"""Stored rows for the tests of the readers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from otel_audit.ids import record_id
from otel_audit.models import (
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def at(seconds: float = 0) -> datetime:
    """Return a time some seconds after noon of the day of the tests."""
    return NOON + timedelta(seconds=seconds)


def _began(moment: datetime) -> dict[str, Any]:
    return {"id": UUID(record_id(round(moment.timestamp() * 1e9))), "datetime": moment}


def store_request(moment: datetime = NOON, **columns: Any) -> RequestAuditEvent:
    """Store a request that was answered with 200."""
    status = columns.setdefault("status_code", 200)
    columns.setdefault("outcome", "unknown" if status is None else "failure" if status >= 400 else "success")
    columns.setdefault("method", "GET")
    columns.setdefault("url", "/api/products/")
    return RequestAuditEvent.objects.create(**_began(moment), **columns)


def store_login(moment: datetime = NOON, **columns: Any) -> LoginAuditEvent:
    """Store a sign-in."""
    columns.setdefault("status", LoginAuditEvent.SIGNIN)
    columns.setdefault("outcome", "success")
    return LoginAuditEvent.objects.create(**_began(moment), **columns)


def store_process(moment: datetime = NOON, **columns: Any) -> ProcessAuditEvent:
    """Store a process that ended well."""
    columns.setdefault("name", "Create product")
    columns.setdefault("outcome", "success")
    columns.setdefault("duration_ms", 120.0)
    return ProcessAuditEvent.objects.create(**_began(moment), **columns)


def store_step(process: ProcessAuditEvent | None, moment: datetime = NOON, **columns: Any) -> StepAuditEvent:
    """Store a step that ended well."""
    columns.setdefault("name", "Validate data")
    columns.setdefault("outcome", "success")
    columns.setdefault("duration_ms", 30.0)
    return StepAuditEvent.objects.create(**_began(moment), process=process, **columns)


def store_registration(
    step: StepAuditEvent | None, success: bool = True, moment: datetime = NOON, **columns: Any
) -> RegistrationAuditEvent:
    """Store a registration."""
    columns.setdefault("name", "code ok")
    return RegistrationAuditEvent.objects.create(**_began(moment), step=step, success=success, **columns)
