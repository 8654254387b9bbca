"""The class API beyond its documented example: who acts, mistakes, and where there is no request."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from otel_audit import actor, edges, process
from otel_audit.ids import record_id
from otel_audit.models import LoginAuditEvent, ProcessAuditEvent, RegistrationAuditEvent, StepAuditEvent
from otel_audit.process_audit import ProcessAudit
from otel_audit.testing import AuditRecords


class Baking(ProcessAudit):
    """Bake."""

    def create_process(self) -> ProcessAuditEvent:
        """Begin."""
        return self.save_model(ProcessAuditEvent(name="Bake"))

    def create_steps(self, process: ProcessAuditEvent) -> None:
        """Begin the one step."""
        self.mixing = self.save_model(StepAuditEvent(name="mix", order=1, process=process))

    def register(self, **columns: Any) -> RegistrationAuditEvent:
        """Register."""
        return self.save_model(RegistrationAuditEvent(step=self.mixing, **{"success": True, **columns}))


def bake(request: HttpRequest) -> HttpResponse:
    """Bake once."""
    baking = Baking(request)
    registration = baking.register(name="flour")
    stored = request.META["process_audit_event"]
    return HttpResponse(f"{stored.created_by} {registration.created_by} {registration.pk}")


async def abake(request: HttpRequest) -> HttpResponse:
    """Bake once, in an event loop."""
    return bake(request)


def bake_inside_another_process(request: HttpRequest) -> HttpResponse:
    """Bake while another process runs."""
    with process("Dinner"):
        Baking(request).register(name="flour")
    return HttpResponse("baked")


def bake_for_somebody(request: HttpRequest) -> HttpResponse:
    """Say who acts."""
    baking = Baking(request)
    baking.save_model(StepAuditEvent(name="rise", process=request.META["process_audit_event"], created_by="41"))
    baking.register(created_by="42")
    return HttpResponse("baked")


urlpatterns = [
    path("bake/", bake),
    path("abake/", abake),
    path("inside/", bake_inside_another_process),
    path("somebody/", bake_for_somebody),
]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def user(django_user_model: Any) -> Any:
    """A user."""
    return django_user_model.objects.create_user("ada")


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/bake/", "/abake/"])
def test_signed_in_user_created_everything(records: AuditRecords, client: Client, user: Any, path: str) -> None:
    client.force_login(user)
    records.clear()

    response = client.get(path)

    assert response.status_code == 200
    assert {row.created_by for row in (*records.processes, *records.steps, *records.registrations)} == {str(user.pk)}
    assert {row.actor_name for row in records} == {"ada"}


@pytest.mark.django_db
def test_instances_come_back_with_key_and_user(records: AuditRecords, client: Client, user: Any) -> None:
    client.force_login(user)
    records.clear()

    content = client.get("/bake/").content.decode()

    assert content == f"{user.pk} {user.pk} {records.registrations[0].id}"


@pytest.mark.django_db
def test_async_view_that_never_asked_for_the_user_runs(
    records: AuditRecords, client: Client, async_client: AsyncClient, user: Any
) -> None:
    client.force_login(user)
    async_client.cookies = client.cookies
    records.clear()

    response = async_to_sync(async_client.get)("/abake/")

    assert response.status_code == 200
    assert records.processes[0].created_by == str(user.pk)


def test_anonymous_request_has_no_creator(records: AuditRecords, client: Client) -> None:
    content = client.get("/bake/").content.decode()

    assert content.startswith("None None ")
    assert records.processes[0].created_by is None
    assert records.processes[0].actor_name == "anonymous"


def test_named_creator_is_kept(records: AuditRecords, client: Client) -> None:
    client.get("/somebody/")

    assert {row.name: row.created_by for row in records.steps} == {"mix": None, "rise": "41"}
    assert records.registrations[0].created_by == "42"


def test_step_belongs_to_its_own_process_inside_another(records: AuditRecords, client: Client) -> None:
    client.get("/inside/")

    processes = {row.name: row for row in records.processes}
    assert records.steps[0].process_id == processes["Bake"].id
    assert records.steps[0].parent_span_id == processes["Bake"].span_id


def test_without_a_request_every_record_is_there_at_once(records: AuditRecords) -> None:
    with actor("system", "import"):
        baking = Baking()
        assert len(records.processes) == len(records.steps) == 1
        baking.register(name="flour")

    assert records.registrations[0].step_id == baking.mixing.pk == records.steps[0].id
    assert {row.actor_name for row in records} == {"import"}


def test_step_of_a_process_from_elsewhere_keeps_its_key(records: AuditRecords) -> None:
    there = UUID(record_id())

    Baking().save_model(RegistrationAuditEvent(step_id=there, success=True))

    assert [row.step_id for row in records.registrations] == [there]


def test_registration_without_a_step_is_recorded(records: AuditRecords) -> None:
    Baking().save_model(RegistrationAuditEvent(success=True))

    assert [row.step_id for row in records.registrations] == [None]


def test_text_in_the_place_of_extra_data_is_kept(records: AuditRecords) -> None:
    Baking().register(extra_informations="half a bag")

    assert records.registrations[0].extra_informations == {"extra_informations": "half a bag"}


def test_request_that_no_guard_saw_is_no_request(records: AuditRecords, rf: Any) -> None:
    request = rf.get("/")
    request.user = AnonymousUser()

    Baking(request).register()

    assert records.processes[0].request_id is None
    assert len(records.registrations) == 1


def test_forgotten_create_process_is_named(records: AuditRecords) -> None:
    class Empty(ProcessAudit):
        pass

    class Forgetful(ProcessAudit):
        def create_process(self) -> Any:
            self.save_model(ProcessAuditEvent(name="Bake"))

    with pytest.raises(NotImplementedError, match=r"Empty needs create_process\(\)"):
        Empty()
    with pytest.raises(TypeError, match=r"Forgetful\.create_process\(\) returned None"):
        Forgetful()


def test_other_event_is_refused_and_breaks_nothing(
    records: AuditRecords, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    baking = Baking()
    with pytest.raises(TypeError, match="give it a process, step or registration event"):
        baking.save_model(LoginAuditEvent())

    monkeypatch.setattr(edges, "reraise", False)
    baking.save_model(LoginAuditEvent())

    assert records.logins == []
    assert "ProcessAudit.save_model" in caplog.text
    caplog.clear()
