"""The rows of a report, oldest first, read in pieces by key: memory stays bounded, and no database needs a cursor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from otel_audit.models import (
    AuditEvent,
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit.outcomes import processes_with_outcome, steps_with_outcome

__all__ = ["Scope", "in_batches"]

BATCH: Final = 2000


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows a report shows: those that began in ``[since, until)``; None leaves that end open."""

    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def of(cls, since: datetime | None, until: datetime | None) -> Scope:
        """Return the scope for two times; a time without a zone is taken as UTC."""
        return cls(_aware(since), _aware(until))

    def requests(self) -> QuerySet[RequestAuditEvent]:
        """Return the requests, without their bodies."""
        queryset = self._began_within(RequestAuditEvent.objects.all())
        return queryset.defer("request_body", "response_body", "error_stacktrace", "extra_informations")

    def logins(self) -> QuerySet[LoginAuditEvent]:
        """Return the sign-ins with the address that their request came from."""
        queryset = self._began_within(LoginAuditEvent.objects.select_related("request"))
        return queryset.only(
            "datetime", "status", "outcome", "username", "actor_name", "user", "method", "reason",
            "service_name", "trace_id", "span_id", "request", "request__ip_addresses",
        )  # fmt: skip

    def processes(self) -> QuerySet[Any]:
        """Return the processes with their outcome and their request."""
        queryset = self._began_within(ProcessAuditEvent.objects.select_related("request"))
        return processes_with_outcome(queryset).defer(
            "request__request_body", "request__response_body", "request__error_stacktrace",
            "request__extra_informations",
        )  # fmt: skip

    def steps_without_process(self) -> QuerySet[Any]:
        """Return the steps whose process left no row, after a crash or before it is delivered."""
        process = ProcessAuditEvent.objects.filter(pk=OuterRef("process_id"))
        return steps_with_outcome(self._began_within(StepAuditEvent.objects.filter(~Exists(process))))

    def registrations_without_step(self) -> QuerySet[RegistrationAuditEvent]:
        """Return the registrations whose step left no row."""
        step = StepAuditEvent.objects.filter(pk=OuterRef("step_id"))
        return self._began_within(RegistrationAuditEvent.objects.filter(~Exists(step)))

    def _began_within(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        within = Q()
        if self.since is not None:
            within &= Q(datetime__gte=self.since)
        if self.until is not None:
            within &= Q(datetime__lt=self.until)
        return queryset.filter(within)


def in_batches(queryset: QuerySet[Any], size: int = BATCH) -> Iterator[list[Any]]:
    """Yield the rows that are there now in lists of ``size``, by ascending id.

    What is written while the report is made stays out of it, else a busy site's report would never end.
    """
    newest = queryset.order_by("-pk").values_list("pk", flat=True).first()
    if newest is None:
        return
    following: UUID | None = None
    while True:
        remaining = queryset.filter(pk__lte=newest).order_by("pk")
        if following is not None:
            remaining = remaining.filter(pk__gt=following)
        batch: list[AuditEvent] = list(remaining[:size])
        if batch:
            yield batch
            following = batch[-1].pk
        if len(batch) < size:
            return


def _aware(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)
