"""Assert on a site's own audit trail: `capture` here, and the pytest fixture ``audit_records``.

Inside Django's test environment nothing is written anywhere; what is recorded inside the block is given as unsaved
rows of the five models:

    with capture() as records:
        client.post("/api/products/", {"name": "tea"})
    assert records.requests[0].status_code == 201
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_audit.models import (
        LoginAuditEvent,
        ProcessAuditEvent,
        RegistrationAuditEvent,
        RequestAuditEvent,
        StepAuditEvent,
    )

__all__ = ["AuditRecords", "capture"]


class AuditRecords:
    """The records of a `capture` block, as unsaved model instances in the order in which they were delivered."""

    def __init__(self, envelopes: list[dict[str, Any]]) -> None:
        self._envelopes = envelopes

    @property
    def all(self) -> list[Any]:
        """Every record so far."""
        from otel_audit_exporters.mapper import rows
        from otel_audit_exporters.pipeline import pipeline

        pipeline.pump()
        return [row for envelope in self._envelopes for row in rows(envelope)]

    @property
    def requests(self) -> list[RequestAuditEvent]:
        """HTTP requests."""
        return self._of("requestauditevent")

    @property
    def logins(self) -> list[LoginAuditEvent]:
        """Sign-ins, sign-outs and failed attempts."""
        return self._of("loginauditevent")

    @property
    def processes(self) -> list[ProcessAuditEvent]:
        """Business processes."""
        return self._of("processauditevent")

    @property
    def steps(self) -> list[StepAuditEvent]:
        """Steps of processes."""
        return self._of("stepauditevent")

    @property
    def registrations(self) -> list[RegistrationAuditEvent]:
        """Registrations of steps."""
        return self._of("registrationauditevent")

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self._envelopes.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def __repr__(self) -> str:
        return f"AuditRecords({self.all!r})"

    def _of(self, model_name: str) -> list[Any]:
        return [row for row in self.all if row._meta.model_name == model_name]


@contextmanager
def capture() -> Iterator[AuditRecords]:
    """Collect what is recorded inside the block, in this process, whatever ``DELIVERY`` says."""
    from otel_audit_exporters.pipeline import pipeline

    with pipeline.capture() as envelopes:
        yield AuditRecords(envelopes)
