"""How a process ended, derived when it is read: nothing of it is stored.

Steps and registrations arrive in any order, from other services, after a crash, so no writer can know. The rules, in
this order:

============  =====================================================  =================================================
outcome       a step                                                 a process
============  =====================================================  =================================================
failed        its own outcome is failure, or a registration failed   its own outcome is failure, or a step failed
incomplete    fewer registrations came than were expected            a step is incomplete, or there is no step at all
unknown       its own outcome is unknown                             its own outcome is unknown, or that of a step is
succeeded     otherwise                                              otherwise
============  =====================================================  =================================================

A registration beyond the expected number counts like any other: when it failed, its step failed. A process without a
step shows nothing that was done, which is no success. The rules stand here once, as SQL, so that lists, filters and
reports agree and a page of any length costs no query of its own.
"""

from __future__ import annotations

from typing import Any

from django.db.models import (
    Case,
    CharField,
    Count,
    Exists,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextChoices,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.utils.translation import pgettext_lazy

from otel_audit.models import AuditEvent, ProcessAuditEvent, RegistrationAuditEvent, StepAuditEvent

__all__ = ["DerivedOutcome", "processes_with_outcome", "steps_with_outcome"]


class DerivedOutcome(TextChoices):
    """How a process or a step ended, as far as its rows tell."""

    SUCCEEDED = "succeeded", pgettext_lazy("outcome", "succeeded")
    FAILED = "failed", pgettext_lazy("outcome", "failed")
    INCOMPLETE = "incomplete", pgettext_lazy("outcome", "incomplete")
    UNKNOWN = "unknown", pgettext_lazy("outcome", "unknown")


def steps_with_outcome(steps: QuerySet[StepAuditEvent] | None = None) -> QuerySet[Any]:
    """Return ``steps`` (default: all) with ``arrived``, the number of registrations, and ``derived_outcome``."""
    registrations = RegistrationAuditEvent.objects.filter(step=OuterRef("pk")).order_by()
    arrived = registrations.values("step").annotate(number=Count("pk")).values("number")
    queryset: QuerySet[Any] = StepAuditEvent.objects.all() if steps is None else steps
    queryset = queryset.annotate(arrived=Coalesce(Subquery(arrived), 0))
    derived: QuerySet[Any] = queryset.annotate(
        derived_outcome=_first_that_holds(
            failed=Q(outcome=AuditEvent.Outcome.FAILURE) | Q(Exists(registrations.filter(success=False))),
            incomplete=Q(arrived__lt=F("total_registrations")),
            unknown=Q(outcome=AuditEvent.Outcome.UNKNOWN),
        )
    )
    return derived


def processes_with_outcome(processes: QuerySet[ProcessAuditEvent] | None = None) -> QuerySet[Any]:
    """Return ``processes`` (default: all) with ``derived_outcome``."""
    steps = steps_with_outcome(StepAuditEvent.objects.filter(process=OuterRef("pk")).order_by())
    queryset: QuerySet[Any] = ProcessAuditEvent.objects.all() if processes is None else processes

    def any_step(outcome: DerivedOutcome) -> Q:
        return Q(Exists(steps.filter(derived_outcome=outcome)))

    derived: QuerySet[Any] = queryset.annotate(
        derived_outcome=_first_that_holds(
            failed=Q(outcome=AuditEvent.Outcome.FAILURE) | any_step(DerivedOutcome.FAILED),
            incomplete=any_step(DerivedOutcome.INCOMPLETE) | ~Q(Exists(steps)),
            unknown=Q(outcome=AuditEvent.Outcome.UNKNOWN) | any_step(DerivedOutcome.UNKNOWN),
        )
    )
    return derived


def _first_that_holds(*, failed: Q, incomplete: Q, unknown: Q) -> Case:
    return Case(
        When(failed, then=Value(DerivedOutcome.FAILED.value)),
        When(incomplete, then=Value(DerivedOutcome.INCOMPLETE.value)),
        When(unknown, then=Value(DerivedOutcome.UNKNOWN.value)),
        default=Value(DerivedOutcome.SUCCEEDED.value),
        output_field=CharField(),
    )
