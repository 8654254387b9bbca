"""The five models: append-only in Python, ids that sort by time, cuts that warn, a router with manners."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth.models import Permission
from django.core import serializers
from django.core.management import call_command
from django.db import DatabaseError, router, transaction
from django.test import override_settings

from otel_audit import fields, floods
from otel_audit.database_router import DRFAuditTrail, OTelAudit
from otel_audit.exceptions import AppendOnlyError
from otel_audit.floods import Flood
from otel_audit.ids import record_id
from otel_audit.models import (
    AuditEvent,
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit.routers import AuditRouter

MODELS: list[type[AuditEvent]] = [
    RequestAuditEvent,
    LoginAuditEvent,
    ProcessAuditEvent,
    StepAuditEvent,
    RegistrationAuditEvent,
]
REQUIRED: dict[type[AuditEvent], dict[str, Any]] = {RegistrationAuditEvent: {"success": True}}

each_model = pytest.mark.parametrize("model", MODELS)
audit_db = pytest.mark.django_db(databases=["default", "audit"])


def make(model: type[AuditEvent], **columns: Any) -> Any:
    return model._default_manager.create(**REQUIRED.get(model, {}), **columns)


CHANGES: dict[str, Callable[[Any], object]] = {
    "save": lambda row: row.save(),
    "save of some fields": lambda row: row.save(update_fields=["actor_name"]),
    "forced update": lambda row: row.save(force_update=True),
    "delete": lambda row: row.delete(),
    "save of a copy": lambda row: type(row).objects.get(pk=row.pk).save(),
    "queryset update": lambda row: type(row).objects.filter(pk=row.pk).update(actor_name="x"),
    "queryset delete": lambda row: type(row).objects.filter(pk=row.pk).delete(),
    "manager update": lambda row: type(row).objects.update(actor_name="x"),
    "base manager update": lambda row: type(row)._base_manager.filter(pk=row.pk).update(actor_name="x"),
    "base manager delete": lambda row: type(row)._base_manager.filter(pk=row.pk).delete(),
    "bulk_update": lambda row: type(row).objects.bulk_update([row], ["actor_name"]),
    "update_or_create": lambda row: type(row).objects.update_or_create({"actor_name": "x"}, pk=row.pk),
    "bulk_create that overwrites": lambda row: type(row).objects.bulk_create(
        [row], update_conflicts=True, unique_fields=["id"], update_fields=["actor_name"]
    ),
    "bulk_create that overwrites, by position": lambda row: type(row).objects.bulk_create(
        [row], None, False, True, ["actor_name"], ["id"]
    ),
    "raw delete": lambda row: type(row).objects.filter(pk=row.pk)._raw_delete("audit"),
    "raw update": lambda row: type(row).objects.filter(pk=row.pk)._update([]),
}
ASYNC_CHANGES: dict[str, Callable[[Any], Any]] = {
    "asave": lambda row: row.asave(),
    "adelete": lambda row: row.adelete(),
    "aupdate": lambda row: type(row).objects.filter(pk=row.pk).aupdate(actor_name="x"),
    "queryset adelete": lambda row: type(row).objects.filter(pk=row.pk).adelete(),
    "abulk_update": lambda row: type(row).objects.abulk_update([row], ["actor_name"]),
    "aupdate_or_create": lambda row: type(row).objects.aupdate_or_create({"actor_name": "x"}, pk=row.pk),
}


@audit_db
@each_model
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_stored_row_cannot_be_changed_or_deleted_through_the_orm(
    model: type[AuditEvent], change: Callable[[Any], object]
) -> None:
    row = make(model, actor_name="anna")
    row.actor_name = "somebody else"

    with pytest.raises(AppendOnlyError, match=model.__name__):
        change(row)

    assert model._default_manager.get(pk=row.pk).actor_name == "anna"


@audit_db
@pytest.mark.parametrize("change", ASYNC_CHANGES.values(), ids=ASYNC_CHANGES.keys())
def test_a_stored_row_cannot_be_changed_through_the_async_orm(change: Callable[[Any], Any]) -> None:
    row = make(RequestAuditEvent, actor_name="anna")
    row.actor_name = "somebody else"

    async def make_the_change() -> None:
        await change(row)

    with pytest.raises(AppendOnlyError):
        async_to_sync(make_the_change)()

    assert RequestAuditEvent.objects.get(pk=row.pk).actor_name == "anna"


@audit_db
@each_model
def test_a_new_object_with_the_id_of_a_stored_row_does_not_overwrite_it(model: type[AuditEvent]) -> None:
    row = make(model, actor_name="anna")
    twin = model(id=row.id, actor_name="somebody else", **REQUIRED.get(model, {}))

    with pytest.raises(DatabaseError), transaction.atomic(using="audit"):
        twin.save()

    assert model._default_manager.get(pk=row.pk).actor_name == "anna"


RELATIONS: dict[str, Callable[[Any, Any, Any], object]] = {
    "logins.update": lambda request, process, step: request.logins.update(actor_name="x"),
    "processes.all().delete": lambda request, process, step: request.processes.all().delete(),
    "processes.update_or_create": lambda request, process, step: request.processes.update_or_create(name="p"),
    "steps.update": lambda request, process, step: process.steps.update(actor_name="x"),
    "steps.clear": lambda request, process, step: process.steps.clear(),
    "steps.set": lambda request, process, step: process.steps.set([]),
    "steps.remove": lambda request, process, step: process.steps.remove(step),
    "registrations.all().update": lambda request, process, step: step.registrations.all().update(success=True),
    "registrations.add": lambda request, process, step: step.registrations.add(
        RegistrationAuditEvent.objects.create(success=False)
    ),
}


@audit_db
@pytest.mark.parametrize("change", RELATIONS.values(), ids=RELATIONS.keys())
def test_related_managers_refuse_to_change_rows(change: Callable[[Any, Any, Any], object]) -> None:
    request = RequestAuditEvent.objects.create()
    LoginAuditEvent.objects.create(request=request)
    process = ProcessAuditEvent.objects.create(name="p", request=request)
    step = StepAuditEvent.objects.create(name="s", process=process)
    RegistrationAuditEvent.objects.create(step=step, success=False)

    with pytest.raises(AppendOnlyError), transaction.atomic(using="audit"):
        change(request, process, step)

    assert process.steps.get() == step


@audit_db
def test_related_managers_read_and_insert() -> None:
    process = ProcessAuditEvent.objects.create(name="Create product")

    step = process.steps.create(name="Validate")
    step.registrations.create(success=True, name="code ok")

    assert process.steps.get().registrations.get().name == "code ok"


@audit_db
@each_model
def test_rows_can_be_inserted_in_bulk_and_again_without_harm(model: type[AuditEvent]) -> None:
    rows = [model(actor_name=str(number), **REQUIRED.get(model, {})) for number in range(3)]

    model._default_manager.bulk_create(rows)
    model._default_manager.bulk_create(rows, ignore_conflicts=True)

    assert model._default_manager.count() == 3


@audit_db
@each_model
def test_ids_are_uuid_version_7(model: type[AuditEvent]) -> None:
    row = make(model)

    assert isinstance(row.pk, UUID)
    assert (row.pk.version, row.pk.variant) == (7, "specified in RFC 4122")


@audit_db
@each_model
def test_newest_first_is_the_order_of_ids(model: type[AuditEvent]) -> None:
    times = [1_700_000_000_000_000_000 + number * 1_000_000 for number in (1, 3, 2)]
    for time_ns in times:
        make(model, id=UUID(record_id(time_ns)), actor_name=str(time_ns))

    names = list(model._default_manager.values_list("actor_name", flat=True))

    assert names == [str(time_ns) for time_ns in sorted(times, reverse=True)]


@audit_db
@pytest.mark.parametrize(
    ("model", "relation"),
    [
        (LoginAuditEvent, "request"),
        (ProcessAuditEvent, "request"),
        (StepAuditEvent, "process"),
        (RegistrationAuditEvent, "step"),
    ],
)
def test_a_row_is_stored_before_the_row_it_refers_to(model: type[AuditEvent], relation: str) -> None:
    absent = UUID(record_id())

    row = make(model, **{f"{relation}_id": absent})

    assert getattr(model._default_manager.get(pk=row.pk), f"{relation}_id") == absent


@audit_db
def test_a_long_value_is_cut_and_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields, "_flood", Flood())

    with caplog.at_level(logging.WARNING, "otel_audit.truncation"):
        row = RequestAuditEvent.objects.create(url="/" + "x" * 3009)

    assert len(RequestAuditEvent.objects.get(pk=row.pk).url) == 2048
    assert [record.getMessage() for record in caplog.records] == [
        "Truncating value for field 'url' to 2048 characters. Original length: 3010."
    ]


def test_a_client_cannot_flood_the_log_with_long_values(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, agent = RequestAuditEvent._meta.get_field("url"), RequestAuditEvent._meta.get_field("user_agent")
    now = [1000.0]
    monkeypatch.setattr(fields, "_flood", Flood())
    monkeypatch.setattr(floods, "monotonic", lambda: now[0])

    with caplog.at_level(logging.WARNING, "otel_audit.truncation"):
        for _ in range(100):
            url.get_prep_value("x" * 3000)
        agent.get_prep_value("x" * 3000)
        now[0] += 60
        url.get_prep_value("x" * 3001)

    assert [record.getMessage() for record in caplog.records] == [
        "Truncating value for field 'url' to 2048 characters. Original length: 3000.",
        "Truncating value for field 'user_agent' to 512 characters. Original length: 3000.",
        "Truncating value for field 'url' to 2048 characters. Original length: 3001. (100 since the last such line)",
    ]


@audit_db
def test_a_value_that_fits_is_neither_cut_nor_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "otel_audit.truncation"):
        row = RequestAuditEvent.objects.create(url="/" + "😀" * 2047)

    assert RequestAuditEvent.objects.get(pk=row.pk).url == "/" + "😀" * 2047
    assert caplog.records == []


@audit_db
def test_json_and_microseconds_survive_the_database() -> None:
    extra = {"order": {"lines": [1, 2.5, None, True]}, "name": "Łukasz 王小明"}

    row = RequestAuditEvent.objects.create(extra_informations=extra, changed_fields=["url"])

    stored = RequestAuditEvent.objects.get(pk=row.pk)
    assert (stored.extra_informations, stored.changed_fields) == (extra, ["url"])
    assert stored.datetime == row.datetime


@audit_db
def test_a_fixture_restores_rows_but_overwrites_none(tmp_path: Path) -> None:
    row = RequestAuditEvent.objects.create(actor_name="anna")
    backup = serializers.serialize("json", [row, RequestAuditEvent(actor_name="bert")])
    fixture = tmp_path / "rows.json"
    fixture.write_text(backup.replace("anna", "somebody else"))

    with pytest.raises(AppendOnlyError), transaction.atomic(using="audit"):
        call_command("loaddata", fixture, database="audit", verbosity=0)
    fixture.write_text(serializers.serialize("json", [RequestAuditEvent(actor_name="bert")]))
    call_command("loaddata", fixture, database="audit", verbosity=0)

    assert set(RequestAuditEvent.objects.values_list("actor_name", flat=True)) == {"anna", "bert"}


#: What other programs read by these names: they stay as they are.
COMMON = (
    "id datetime observed_at stored_at trace_id span_id parent_span_id service_name actor_name actor_type action "
    "outcome schema_version changed_fields extra_informations stream_id stream_seq record_hash"
)
COLUMNS: dict[type[AuditEvent], str] = {
    RequestAuditEvent: "user ip_addresses method url query_params request_type request_body response_body status_code "
    "response_time response_size error_type error_message error_stacktrace route user_agent request_size session_id",
    LoginAuditEvent: "user status request_id username method reason session_id",
    ProcessAuditEvent: "name description created_by request_id duration_ms",
    StepAuditEvent: "process_id name description order total_registrations created_by duration_ms",
    RegistrationAuditEvent: "step_id success name description created_by",
}


@each_model
def test_tables_and_columns_have_their_promised_names(model: type[AuditEvent]) -> None:
    columns = {field.column for field in model._meta.concrete_fields}

    assert model._meta.db_table == f"otel_audit_{model.__name__.lower()}"
    assert columns == {*COMMON.split(), *COLUMNS[model].split()}


def test_relations_defaults_and_values_are_those_of_the_ancestor() -> None:
    request, process, step = RequestAuditEvent(), ProcessAuditEvent(), StepAuditEvent()

    assert all(hasattr(request, name) for name in ("logins", "processes"))
    assert hasattr(process, "steps")
    assert hasattr(step, "registrations")
    assert step.total_registrations == 1
    assert (LoginAuditEvent.SIGNIN, LoginAuditEvent.SIGNOUT, LoginAuditEvent.FAILED) == (
        "Sign in",
        "Sign out",
        "Failed",
    )


@each_model
def test_what_people_ask_for_is_indexed_and_every_index_ends_in_the_id(model: type[AuditEvent]) -> None:
    indexed = [tuple(index.fields) for index in model._meta.indexes]
    asked = {"user", "created_by", "route", "outcome", "trace_id", "request", "process", "step"}
    asked |= {"status"} if model is LoginAuditEvent else {"status_code"}

    assert {fields[-1] for fields in indexed} == {"id"}
    assert {fields[0] for fields in indexed} >= asked & {field.name for field in model._meta.concrete_fields}


@audit_db
@each_model
def test_the_only_permission_is_to_view(model: type[AuditEvent]) -> None:
    permissions = Permission.objects.filter(
        content_type__app_label="otel_audit", content_type__model=model._meta.model_name
    )

    assert [permission.codename for permission in permissions] == [f"view_{model._meta.model_name}"]


@audit_db
@pytest.mark.parametrize("app", ["otel_audit", "otel_audit_receiver"])
def test_the_migration_matches_the_models(app: str) -> None:
    call_command("makemigrations", app, "--check", "--dry-run", verbosity=0)


@pytest.mark.parametrize("name", [DRFAuditTrail, OTelAudit])
def test_the_router_has_the_names_of_the_ancestor(name: type) -> None:
    assert name is AuditRouter


@each_model
def test_the_router_reads_and_writes_audit_models_on_the_audit_database(model: type[AuditEvent]) -> None:
    assert router.db_for_read(model) == "audit"
    assert router.db_for_write(model) == "audit"


@each_model
def test_the_default_database_is_used_where_none_is_set(model: type[AuditEvent]) -> None:
    with override_settings(OTEL_AUDIT={}):
        assert router.db_for_read(model) == "default"
        assert router.allow_migrate("default", "otel_audit", model_name=model._meta.model_name)


@pytest.mark.parametrize(
    ("database", "alias", "app", "allowed"),
    [
        ("audit", "audit", "otel_audit", True),
        ("audit", "default", "otel_audit", False),
        ("audit", "third", "otel_audit", False),
        ("audit", "audit", "auth", False),
        ("audit", "default", "auth", None),
        ("audit", "third", "auth", None),
        ("default", "default", "otel_audit", True),
        ("default", "default", "auth", None),
        ("default", "third", "auth", None),
    ],
)
def test_migrations_go_where_they_belong(database: str, alias: str, app: str, allowed: bool | None) -> None:
    with override_settings(OTEL_AUDIT={"DATABASE": database}):
        assert AuditRouter().allow_migrate(alias, app) is allowed


def test_the_router_leaves_other_apps_to_other_routers() -> None:
    user = apps.get_model("auth", "User")

    assert AuditRouter().db_for_read(user) is None
    assert AuditRouter().db_for_write(user) is None
    assert AuditRouter().allow_relation(user(), user()) is None
    assert AuditRouter().allow_relation(user(), RequestAuditEvent()) is None


def test_the_router_allows_relations_among_audit_models() -> None:
    assert AuditRouter().allow_relation(RequestAuditEvent(), LoginAuditEvent()) is True
