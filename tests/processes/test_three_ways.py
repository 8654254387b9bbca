"""Plain OpenTelemetry, our context managers and the class API give the same rows."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client, override_settings

from otel_audit.testing import AuditRecords

from .conftest import told
from .ways import WAYS, ShopError

pytestmark = pytest.mark.urls("tests.processes.urls")

each_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def client() -> Client:
    """A client that gets a response for an exception."""
    return Client(raise_request_exception=False)


def links_hold(records: AuditRecords) -> None:
    """Every record belongs to the one that encloses it, in one trace."""
    (process,) = records.processes
    assert {step.process_id for step in records.steps} == {process.id}
    assert {row.step_id for row in records.registrations} <= {step.id for step in records.steps}
    assert {row.trace_id for row in records} == {process.trace_id}
    assert {step.parent_span_id for step in records.steps} == {process.span_id}
    spans = {step.id: step.span_id for step in records.steps}
    assert all(row.span_id == spans[row.step_id] for row in records.registrations)


@each_way
def test_process_of_a_request_makes_the_same_rows(client: Client, records: AuditRecords, way: str) -> None:
    response = client.get(f"/run/{way}/2/0/")

    (request,) = records.requests
    assert response.content == b"done"
    assert told(records) == {
        "processes": [("Create product", "one tea", "success", "anonymous", {"sku": "A-1"}, request.id)],
        "steps": [
            (1, "Validate", "by hand", 2, "success", "anonymous"),
            (2, "Save", None, 1, "success", "anonymous"),
        ],
        "registrations": [
            (0, "check 0", True, "looked", "success", {"n": 0}),
            (0, "check 1", False, "looked", "failure", {"n": 1}),
            (1, "", True, None, "success", None),
        ],
    }
    links_hold(records)
    assert records.processes[0].parent_span_id == request.span_id
    assert records.processes[0].trace_id == request.trace_id


@pytest.mark.parametrize("way", ["helpers", "classes"])
def test_rows_of_a_request_are_of_one_trace_whatever_provider_the_site_has(
    client: Client, records: AuditRecords, way: str, provider: str
) -> None:
    client.get(f"/run/{way}/2/0/")

    (request,) = records.requests
    (process,) = records.processes
    assert {row.trace_id for row in records} == {request.trace_id}
    assert process.parent_span_id == request.span_id
    links_hold(records)


@each_way
async def test_process_of_an_async_view_makes_the_same_rows(async_client: Any, records: AuditRecords, way: str) -> None:
    await async_client.get(f"/arun/{way}/2/0/")

    (request,) = records.requests
    assert len(records.steps) == 2
    assert len(records.registrations) == 3
    assert records.processes[0].request_id == request.id
    links_hold(records)


@each_way
@override_settings(OTEL_AUDIT={"DATABASE": "audit", "ENABLED": False})
def test_switched_off_the_view_runs_and_nothing_is_recorded(client: Client, records: AuditRecords, way: str) -> None:
    response = client.get(f"/run/{way}/2/0/")

    assert response.content == b"done"
    assert list(records) == []


@pytest.mark.parametrize("way", ["plain", "helpers"])
def test_exception_fails_step_and_process_and_is_recorded(client: Client, records: AuditRecords, way: str) -> None:
    response = client.get(f"/run/{way}/1/1/")

    (process,) = records.processes
    validate, save = sorted(records.steps, key=lambda row: row.order or 0)
    assert response.status_code == 500
    assert (validate.outcome, save.outcome, process.outcome) == ("success", "failure", "failure")
    for row in (save, process):
        error = row.extra_informations["exception"]
        assert error["type"].endswith("ShopError")
        assert error["message"] == "the shelf is full"
        assert "raise ShopError" in error["stacktrace"]
    assert process.extra_informations["sku"] == "A-1"


def test_exception_of_the_view_fails_a_process_of_the_class_api(client: Client, records: AuditRecords) -> None:
    client.get("/run/classes/1/1/")

    (process,) = records.processes
    assert process.outcome == "failure"
    assert process.extra_informations["exception"]["message"] == "the shelf is full"
    assert len(records.steps) == 2


@each_way
def test_500_registrations_of_a_step_are_all_recorded(client: Client, records: AuditRecords, way: str) -> None:
    client.get(f"/run/{way}/500/0/")

    names = [row.name for row in sorted(records.registrations, key=lambda row: row.id)]
    assert names[:500] == [f"check {number}" for number in range(500)]
    assert len({row.id for row in records.registrations}) == 501
    assert all("span.dropped" not in row.changed_fields for row in records.steps)


@each_way
def test_processes_of_one_request_are_kept_apart(client: Client, records: AuditRecords, way: str) -> None:
    client.get(f"/twice/{way}/")

    (request,) = records.requests
    first, second = records.processes
    assert first.id != second.id
    assert {first.request_id, second.request_id} == {request.id}
    for process in (first, second):
        orders = sorted(row.order for row in records.steps if row.process_id == process.id)
        assert orders == [1, 2]


@each_way
def test_process_outside_a_request_makes_the_same_rows(records: AuditRecords, way: str, provider: str) -> None:
    if way == "plain" and provider == "private":
        pytest.skip("spans of a provider that is not the SDK's reach nobody")
    _attach()

    WAYS[way](None, 2, False)

    assert told(records)["processes"] == [("Create product", "one tea", "success", "unknown", {"sku": "A-1"}, None)]
    assert [row[:4] for row in told(records)["steps"]] == [
        (1, "Validate", "by hand", 2),
        (2, "Save", None, 1),
    ]
    assert [row[1:3] for row in told(records)["registrations"]] == [("check 0", True), ("check 1", False), ("", True)]
    links_hold(records)


@each_way
def test_exception_outside_a_request_reaches_the_caller(records: AuditRecords, way: str) -> None:
    _attach()

    with pytest.raises(ShopError):
        WAYS[way](None, 1, True)

    assert len(records.processes) == 1


def test_documented_example_runs_with_only_the_import_root_changed(client: Client, records: AuditRecords) -> None:
    response = client.post("/documented/")

    (request,) = records.requests
    (process,) = records.processes
    (step,) = records.steps
    first, second = sorted(records.registrations, key=lambda row: row.id)
    assert (process.name, process.request_id) == ("Criar produto", request.id)
    assert (step.name, step.order, step.total_registrations) == ("Validação dos Dados", 1, 2)
    assert (first.name, first.success) == ("ok", True)
    assert (second.name, second.success, second.description) == ("preço", False, "muito baixo")
    assert response.json() == {"id": str(second.id)}


def _attach() -> None:
    """What a management command or the first helper call does."""
    from otel_audit.provider import site_tracer

    site_tracer()
