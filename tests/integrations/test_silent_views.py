"""Sign-in views that send no signal: ``AUTH_URLS``, and what a view writes into ``request.META``."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from otel_audit.testing import AuditRecords

from .conftest import PASSWORD, only, told

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db]

AUDIT = {"DATABASE": "audit", "AUTH_URLS": ["/sso/", "/sso/json/", "/login/"], "AUTH_FAILED_STATUS_CODES": [401, 403]}


@pytest.fixture(autouse=True)
def _auth_urls(settings: object) -> None:
    settings.OTEL_AUDIT = AUDIT  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, ("Sign in", "LOGIN", "success", None, "ada")),
        (302, ("Sign in", "LOGIN", "success", None, "ada")),
        (401, ("Failed", "LOGIN", "failure", None, "ada")),
        (403, ("Failed", "LOGIN", "failure", None, "ada")),
    ],
)
@pytest.mark.parametrize("path", ["/sso/", "/sso/json/"])
def test_status_of_an_auth_url_says_how_the_sign_in_ended(
    client: Client, records: AuditRecords, status: int, expected: tuple[str, ...], path: str
) -> None:
    kind = {"content_type": "application/json"} if "json" in path else {}

    client.post(path, {"username": "ada", "password": "guess", "status": status}, **kind)

    login = only(records)
    assert told(login) == expected
    assert login.method == "view"
    assert records.requests[0].request_body is None


@pytest.mark.parametrize("status", [400, 500])
def test_other_errors_of_an_auth_url_are_no_sign_in(client: Client, records: AuditRecords, status: int) -> None:
    client.post("/sso/", {"status": status})

    assert records.logins == []
    assert records.requests[0].status_code == status


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"username": "ada"' + b" " * 70_000])
def test_body_that_is_no_json_at_an_auth_url_is_a_failure_without_a_name(
    client: Client, records: AuditRecords, body: bytes
) -> None:
    response = client.post("/sso/json/", body, content_type="application/json")

    assert response.status_code == 401
    assert told(only(records)) == ("Failed", "LOGIN", "failure", None, "")


def test_body_too_deep_to_parse_changes_nothing(client: Client, records: AuditRecords) -> None:
    response = client.post("/sso/json/", b"[" * 60_000, content_type="application/json")

    assert response.status_code in (401, 500)
    assert len(records.requests) == 1


def test_reading_an_auth_url_is_no_sign_in(client: Client, records: AuditRecords) -> None:
    client.get("/sso/")

    assert records.logins == []


@pytest.mark.parametrize(("password", "status"), [(PASSWORD, "Sign in"), ("guess", "Failed")])
def test_auth_url_whose_view_sends_a_signal_is_recorded_once(
    client: Client, user: User, records: AuditRecords, password: str, status: str
) -> None:
    client.post("/login/", {"username": "ada", "password": password})

    assert only(records).status == status
    assert only(records).method == "session"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Sign in", ("Sign in", "LOGIN", "success")),
        ("Sign out", ("Sign out", "LOGOUT", "success")),
        ("Failed", ("Failed", "LOGIN", "failure")),
        ("Impersonate", ("Impersonate", "IMPERSONATE", "success")),
    ],
)
def test_view_that_says_so_in_meta_is_believed(
    client: Client, user: User, records: AuditRecords, status: str, expected: tuple[str, ...]
) -> None:
    client.post("/meta/", {"status": status, "user": "ada"})

    login = only(records)
    assert told(login) == (*expected, str(user.pk), "ada")
    assert (records.requests[0].user, login.actor_name) == (str(user.pk), "ada")


def test_view_that_says_so_in_meta_needs_no_user(client: Client, records: AuditRecords) -> None:
    client.post("/meta/", {"status": "Sign in"})

    assert told(only(records)) == ("Sign in", "LOGIN", "success", None, "")
