"""What a client sends as its name breaks neither the response nor the record."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client, override_settings

from otel_audit.models import LoginAuditEvent
from otel_audit.testing import AuditRecords

from .conftest import only

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db(databases=["default", "audit"])]

LONG = "n" * 5_000
BEARER = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
NAMES: dict[str, tuple[Any, str]] = {
    "nul": ("a\x00b", "a\\x00b"),
    "surrogate": ("a\ud800b", "a\\ud800b"),
    "long": (LONG, "n" * 255),
    "emoji": ("🦊", "🦊"),
    "escape": ("a\x1b[31mb\r\nc", "a\x1b[31mb\r\nc"),
    "dict": ({"password": "hunter2", "x": 1}, "{'password': '[redacted]', 'x': 1}"),
    "list": (["a", "b"], "['a', 'b']"),
    "number": (10**400, "1" + "0" * 254),
    "boolean": (True, "True"),
    "null": (None, ""),
    "token": (BEARER, "Bearer [redacted]"),
}


@pytest.mark.parametrize("path", ["/token/", "/auth-token/"])
@pytest.mark.parametrize(("name", "stored"), NAMES.values(), ids=NAMES)
def test_hostile_name_is_stored_as_well_as_it_can_be(
    client: Client, records: AuditRecords, path: str, name: Any, stored: str
) -> None:
    body = json.dumps({"username": name, "password": "guess"})

    response = client.post(path, body, content_type="application/json")

    with override_settings(OTEL_AUDIT={"ENABLED": False}):
        bare = client.post(path, body, content_type="application/json")
    assert (response.status_code, response.content, response.headers) == (bare.status_code, bare.content, bare.headers)
    login = only(records)
    assert login.username == stored
    login.save()
    assert LoginAuditEvent.objects.get().username == stored


@pytest.mark.parametrize("body", ["[]", '"text"', "1", "null", '[{"username": "ada"}]'])
def test_body_that_is_no_object_is_a_failure_without_a_name(client: Client, records: AuditRecords, body: str) -> None:
    response = client.post("/token/", body, content_type="application/json")

    with override_settings(OTEL_AUDIT={"ENABLED": False}):
        bare = client.post("/token/", body, content_type="application/json")
    assert (response.status_code, response.content) == (bare.status_code, bare.content)
    assert only(records).username == ""


@pytest.mark.parametrize("name", ["a\x00b", LONG])
def test_hostile_name_in_a_form_is_recorded(client: Client, records: AuditRecords, name: str) -> None:
    response = client.post("/admin/login/", {"username": name, "password": "guess"})

    assert response.status_code == 200
    assert len(records.requests) == 1
