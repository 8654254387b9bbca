"""Sign-ins by Django's own means: sessions and the admin, sync and async."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import authenticate, login
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from django.test import AsyncClient, Client

from otel_audit import actor
from otel_audit.testing import AuditRecords

from .conftest import PASSWORD, only, told

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db]


def test_session_sign_in_is_recorded_with_its_user(client: Client, user: User, records: AuditRecords) -> None:
    response = client.post("/login/", {"username": "ada", "password": PASSWORD})

    login = only(records)
    assert response.status_code == 204
    assert told(login) == ("Sign in", "LOGIN", "success", str(user.pk), "ada")
    assert (login.method, login.reason, login.actor_name) == ("session", "", "ada")
    assert records.requests[0].user == str(user.pk)


def test_wrong_password_is_recorded_with_the_attempted_name(client: Client, user: User, records: AuditRecords) -> None:
    response = client.post("/login/", {"username": "ada", "password": "guess"})

    login = only(records)
    assert response.status_code == 401
    assert told(login) == ("Failed", "LOGIN", "failure", None, "ada")
    assert (login.method, login.reason, login.actor_name) == ("session", "invalid credentials", "anonymous")


def test_async_sign_in_and_out_are_recorded(user: User, records: AuditRecords) -> None:
    client = AsyncClient()

    async_to_sync(client.post)("/alogin/", {"username": "ada", "password": PASSWORD})
    async_to_sync(client.post)("/alogin/", {"username": "ada", "password": "guess"})
    async_to_sync(client.post)("/alogout/")

    assert [told(login) for login in records.logins] == [
        ("Sign in", "LOGIN", "success", str(user.pk), "ada"),
        ("Failed", "LOGIN", "failure", None, "ada"),
        ("Sign out", "LOGOUT", "success", str(user.pk), "ada"),
    ]
    assert [login.method for login in records.logins] == ["session", "password", "session"]
    assert [request.user for request in records.requests] == [str(user.pk)] * 3


@pytest.mark.parametrize("path", ["/logout/", "/alogout/"])
def test_sign_out_is_recorded_with_the_user_who_was_there(user: User, records: AuditRecords, path: str) -> None:
    client = AsyncClient()
    async_to_sync(client.aforce_login)(user)
    records.clear()

    async_to_sync(client.post)(path)

    login = only(records)
    assert told(login) == ("Sign out", "LOGOUT", "success", str(user.pk), "ada")
    assert (login.actor_name, records.requests[0].user) == ("ada", str(user.pk))


def test_sign_out_of_nobody_is_no_event(client: Client, records: AuditRecords) -> None:
    client.post("/logout/")

    assert len(records.requests) == 1
    assert records.logins == []


def test_sign_out_of_a_user_deleted_in_the_same_request_still_names_it(
    client: Client, user: User, records: AuditRecords
) -> None:
    key = str(user.pk)
    client.force_login(user)
    records.clear()

    client.post("/logout/and-delete/")

    assert told(only(records)) == ("Sign out", "LOGOUT", "success", key, "ada")
    assert (records.requests[0].user, records.requests[0].actor_name) == (key, "ada")


def test_inactive_user_with_the_right_password_is_told_apart(client: Client, user: User, records: AuditRecords) -> None:
    User.objects.update(is_active=False)

    client.post("/login/", {"username": "ada", "password": PASSWORD})

    login = only(records)
    assert told(login) == ("Failed", "LOGIN", "failure", str(user.pk), "ada")
    assert (login.reason, login.actor_name) == ("the user is inactive", "anonymous")


def test_inactive_user_with_a_wrong_password_is_told_no_more_than_others(
    client: Client, user: User, records: AuditRecords
) -> None:
    User.objects.update(is_active=False)

    client.post("/login/", {"username": "ada", "password": "guess"})

    assert told(only(records)) == ("Failed", "LOGIN", "failure", None, "ada")
    assert only(records).reason == "invalid credentials"


def test_inactive_user_whom_the_backend_lets_through_is_refused_by_the_form(
    client: Client, user: User, records: AuditRecords, settings: object
) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]  # type: ignore[attr-defined]
    User.objects.update(is_active=False)

    client.post("/login/", {"username": "ada", "password": PASSWORD})

    login = only(records)
    assert told(login) == ("Failed", "LOGIN", "failure", str(user.pk), "ada")
    assert login.reason == "the user is inactive"


def test_every_password_tried_in_one_request_is_an_event(client: Client, user: User, records: AuditRecords) -> None:
    client.post("/login/twice/", {"username": "ada", "password": ["one", "two", "three"]})

    assert [told(login) for login in records.logins] == [("Failed", "LOGIN", "failure", None, "ada")] * 3


def test_sign_in_form_without_a_password_keeps_its_body_out_of_the_record(
    client: Client, records: AuditRecords
) -> None:
    client.post("/login/", {"username": "ada"})

    assert records.logins == []
    assert (records.requests[0].request_body, records.requests[0].response_body) == (None, None)


def test_sign_in_keeps_its_body_out_of_the_record(client: Client, user: User, records: AuditRecords) -> None:
    client.post("/login/", {"username": "ada", "password": PASSWORD})

    assert records.requests[0].request_body is None


# ── admin ───────────────────────────────────────────────────────────────────────────────────────


def test_admin_sign_in_and_sign_out_are_recorded(client: Client, records: AuditRecords) -> None:
    admin = User.objects.create_superuser("root", "root@example.com", PASSWORD)

    signed_in = client.post("/admin/login/?next=/admin/", {"username": "root", "password": PASSWORD})
    signed_out = client.post("/admin/logout/")

    assert (signed_in.status_code, signed_out.status_code) == (302, 200)
    assert [told(login) for login in records.logins] == [
        ("Sign in", "LOGIN", "success", str(admin.pk), "root"),
        ("Sign out", "LOGOUT", "success", str(admin.pk), "root"),
    ]


def test_admin_sign_in_with_a_wrong_password_is_recorded(client: Client, records: AuditRecords) -> None:
    client.post("/admin/login/", {"username": "root", "password": "guess"})

    assert told(only(records)) == ("Failed", "LOGIN", "failure", None, "root")


def test_admin_turns_away_a_user_without_the_right(client: Client, user: User, records: AuditRecords) -> None:
    client.post("/admin/login/", {"username": "ada", "password": PASSWORD})

    login = only(records)
    assert told(login) == ("Failed", "LOGIN", "failure", str(user.pk), "ada")
    assert login.reason == "the user may not sign in here"


def test_failed_sign_in_while_signed_in_as_somebody_else_is_a_failure(client: Client, records: AuditRecords) -> None:
    admin = User.objects.create_superuser("root", "root@example.com", PASSWORD)
    client.force_login(admin)
    records.clear()

    client.post("/admin/login/", {"username": "mallory", "password": "guess"})

    login = only(records)
    assert told(login) == ("Failed", "LOGIN", "failure", None, "mallory")
    assert login.actor_name == "root"
    assert (records.requests[0].user, records.requests[0].actor_name) == (str(admin.pk), "root")


def test_sign_in_as_somebody_else_makes_that_one_the_actor(
    client: Client, user: User, bob: User, records: AuditRecords
) -> None:
    client.force_login(user)
    records.clear()

    client.post("/login/", {"username": "bob", "password": PASSWORD})

    assert told(only(records)) == ("Sign in", "LOGIN", "success", str(bob.pk), "bob")
    assert records.requests[0].user == str(bob.pk)


# ── outside requests ────────────────────────────────────────────────────────────────────────────


def test_script_that_fails_to_authenticate_is_recorded(db: None, records: AuditRecords) -> None:
    authenticate(username="ada", password="guess")

    (found,) = records.logins
    assert told(found) == ("Failed", "LOGIN", "failure", None, "ada")
    assert (found.request_id, found.actor_type) == (None, "system")


def test_script_that_says_who_it_is_acts_as_that(db: None, records: AuditRecords) -> None:
    with actor("system", "nightly-import"):
        authenticate(username="ada", password="guess")

    (found,) = records.logins
    assert (found.username, found.actor_name, found.actor_type) == ("ada", "nightly-import", "system")


def test_script_that_signs_somebody_in_is_recorded(user: User, records: AuditRecords) -> None:
    request = HttpRequest()
    request.session = SessionStore()

    login(request, user)

    (found,) = records.logins
    assert told(found) == ("Sign in", "LOGIN", "success", str(user.pk), "ada")
    assert (found.request_id, found.actor_name) == (None, "ada")
