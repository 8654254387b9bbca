"""How a process ended is derived from its rows, whatever order they came in and whatever is missing."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import pytest
from pytest_django import DjangoAssertNumQueries

from otel_audit.ids import record_id
from otel_audit.models import ProcessAuditEvent, RegistrationAuditEvent, StepAuditEvent
from otel_audit.outcomes import DerivedOutcome, processes_with_outcome, steps_with_outcome

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


class Step(NamedTuple):
    """A step as a test describes it: own outcome, expected registrations, those that came."""

    own: str = "success"
    expected: int = 1
    came: tuple[bool, ...] = (True,)


GOOD = Step()
FAILED = Step(came=(False,))
INCOMPLETE = Step(expected=2)
UNKNOWN = Step(own="unknown")


def store(own: str, steps: list[Step]) -> UUID:
    """Store the rows in the order in which spans end: registrations first, the process last."""
    process_id = UUID(record_id())
    for order, step in enumerate(steps, start=1):
        step_id = UUID(record_id())
        for success in step.came:
            RegistrationAuditEvent.objects.create(step_id=step_id, success=success, name="r")
        StepAuditEvent.objects.create(
            id=step_id,
            process_id=process_id,
            name="s",
            order=order,
            outcome=step.own,
            total_registrations=step.expected,
        )
    ProcessAuditEvent.objects.create(id=process_id, name="p", outcome=own)
    return process_id


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (Step("success", 1, (True,)), "succeeded"),
        (Step("success", 2, (True, True)), "succeeded"),
        (Step("success", 0, ()), "succeeded"),
        (Step("success", 1, (True, True, True)), "succeeded"),
        (Step("success", 1, (False,)), "failed"),
        (Step("success", 2, (False,)), "failed"),
        (Step("success", 1, (True, False)), "failed"),
        (Step("failure", 1, (True,)), "failed"),
        (Step("failure", 1, ()), "failed"),
        (Step("success", 1, ()), "incomplete"),
        (Step("success", 3, (True, True)), "incomplete"),
        (Step("unknown", 2, (True,)), "incomplete"),
        (Step("unknown", 1, (True,)), "unknown"),
        (Step("unknown", 1, (False,)), "failed"),
    ],
)
def test_a_step_ends_as_its_registrations_say(step: Step, outcome: str) -> None:
    store("success", [step])

    found = steps_with_outcome().get()

    assert (found.derived_outcome, found.arrived) == (outcome, len(step.came))


@pytest.mark.parametrize(
    ("own", "steps", "outcome"),
    [
        ("success", [GOOD, GOOD], "succeeded"),
        ("success", [GOOD, FAILED], "failed"),
        ("success", [INCOMPLETE, FAILED], "failed"),
        ("failure", [GOOD], "failed"),
        ("failure", [], "failed"),
        ("success", [], "incomplete"),
        ("unknown", [], "incomplete"),
        ("success", [GOOD, INCOMPLETE], "incomplete"),
        ("unknown", [INCOMPLETE], "incomplete"),
        ("success", [UNKNOWN, INCOMPLETE], "incomplete"),
        ("unknown", [GOOD], "unknown"),
        ("success", [GOOD, UNKNOWN], "unknown"),
        ("success", [Step(expected=1, came=(True, False))], "failed"),
    ],
)
def test_a_process_ends_as_its_steps_say(own: str, steps: list[Step], outcome: str) -> None:
    process_id = store(own, steps)

    found = processes_with_outcome().get(pk=process_id)

    assert found.derived_outcome == outcome


def test_a_process_with_steps_but_without_any_registration_is_no_success() -> None:
    store("success", [Step(came=()), Step(came=())])

    assert processes_with_outcome().get().derived_outcome == DerivedOutcome.INCOMPLETE


def test_rows_of_another_process_do_not_count() -> None:
    good = store("success", [GOOD])
    store("success", [FAILED])

    assert processes_with_outcome().get(pk=good).derived_outcome == DerivedOutcome.SUCCEEDED


def test_processes_can_be_filtered_by_outcome() -> None:
    store("success", [GOOD])
    failed = store("success", [FAILED])

    found = processes_with_outcome().filter(derived_outcome=DerivedOutcome.FAILED)

    assert [process.pk for process in found] == [failed]


def test_many_processes_cost_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for steps in ([GOOD], [FAILED], [INCOMPLETE], []) * 5:
        store("success", list(steps))

    with django_assert_num_queries(1, using="audit"):
        outcomes = [process.derived_outcome for process in processes_with_outcome()]

    assert sorted(outcomes) == sorted(["succeeded", "failed", "incomplete", "incomplete"] * 5)
