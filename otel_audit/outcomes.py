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
reports agree and a page of any length costs no query of its own: one correlated subquery per row and level, as
PostgreSQL would hash all steps there are for an ``EXISTS``, and compile for seconds what is written out repeatedly.
"""

from __future__ import annotations

from typing import Any, Final

from django.db.models import Case, Count, F, IntegerField, Min, OuterRef, QuerySet, Subquery, TextChoices, Value, When
from django.db.models.functions import Coalesce, Least
from django.db.models.lookups import LessThan
from django.utils.translation import pgettext_lazy

from otel_audit.models import AuditEvent, ProcessAuditEvent, RegistrationAuditEvent, StepAuditEvent

__all__ = ["DerivedOutcome", "processes_with_outcome", "steps_with_outcome"]


class DerivedOutcome(TextChoices):
    """How a process or a step ended, as far as its rows tell; the worst first, which decides."""

    FAILED = "failed", pgettext_lazy("outcome", "failed")
    INCOMPLETE = "incomplete", pgettext_lazy("outcome", "incomplete")
    UNKNOWN = "unknown", pgettext_lazy("outcome", "unknown")
    SUCCEEDED = "succeeded", pgettext_lazy("outcome", "succeeded")


def steps_with_outcome(steps: QuerySet[StepAuditEvent] | None = None) -> QuerySet[Any]:
    """Return ``steps`` (default: all) with ``arrived``, the number of registrations, and ``derived_outcome``."""
    queryset: QuerySet[Any] = StepAuditEvent.objects.all() if steps is None else steps
    derived: QuerySet[Any] = queryset.annotate(arrived=_arrived(), derived_outcome=_outcome_of_step())
    return derived


def processes_with_outcome(processes: QuerySet[ProcessAuditEvent] | None = None) -> QuerySet[Any]:
    """Return ``processes`` (default: all) with ``derived_outcome``."""
    steps: QuerySet[Any] = StepAuditEvent.objects.filter(process=OuterRef("pk")).order_by()
    steps = steps.annotate(each=_outcome_of_step()).values("process").annotate(worst=Min("each"))
    queryset: QuerySet[Any] = ProcessAuditEvent.objects.all() if processes is None else processes
    derived: QuerySet[Any] = queryset.annotate(
        derived_outcome=Least(
            _own_outcome(),
            Coalesce(Subquery(steps.values("worst")), _constant(DerivedOutcome.INCOMPLETE)),
        )
    )
    return derived


class _Severity(IntegerField):  # type: ignore[type-arg]  # the stubs' generics do not exist at run time
    """An outcome as its place among the outcomes, so that the worst of many is their minimum."""

    _worst_first: Final = list(DerivedOutcome)

    def from_db_value(self, value: int | None, *args: Any) -> DerivedOutcome | None:
        return None if value is None else self._worst_first[value]

    def get_prep_value(self, value: Any) -> Any:
        return super().get_prep_value(self._worst_first.index(DerivedOutcome(value)))


def _outcome_of_step() -> Least:
    lacking = LessThan(_arrived(), F("total_registrations"))
    return Least(
        _own_outcome(),
        Coalesce(_worst_registration(), _constant(DerivedOutcome.SUCCEEDED)),
        Case(When(lacking, then=_constant(DerivedOutcome.INCOMPLETE)), default=_constant(DerivedOutcome.SUCCEEDED)),
    )


def _own_outcome() -> Case:
    return Case(
        When(outcome=AuditEvent.Outcome.FAILURE, then=_constant(DerivedOutcome.FAILED)),
        When(outcome=AuditEvent.Outcome.UNKNOWN, then=_constant(DerivedOutcome.UNKNOWN)),
        default=_constant(DerivedOutcome.SUCCEEDED),
    )


def _worst_registration() -> Subquery:
    each = Case(When(success=False, then=_constant(DerivedOutcome.FAILED)), default=_constant(DerivedOutcome.SUCCEEDED))
    return Subquery(_registrations_of_step().annotate(worst=Min(each)).values("worst"))


def _arrived() -> Coalesce:
    return Coalesce(Subquery(_registrations_of_step().annotate(number=Count("pk")).values("number")), 0)


def _registrations_of_step() -> QuerySet[Any, Any]:
    """Return the registrations of the step of the outer query, as one group."""
    return RegistrationAuditEvent.objects.filter(step=OuterRef("pk")).order_by().values("step")


def _constant(outcome: DerivedOutcome) -> Value:
    return Value(outcome, output_field=_Severity())
