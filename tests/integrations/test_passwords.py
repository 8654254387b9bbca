"""Passwords that are changed, reset or asked for again."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client, override_settings

from otel_audit.testing import AuditRecords

from .conftest import PASSWORD, only, told

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db]

NEW = "battery staple 7"
TWICE = {"new_password1": NEW, "new_password2": NEW}


@pytest.fixture
def root(client: Client, records: AuditRecords) -> User:
    """An administrator, signed in."""
    found = User.objects.create_superuser("root", "root@example.com", PASSWORD)
    client.force_login(found)
    records.clear()
    return found


def test_changed_password_is_recorded(client: Client, root: User, records: AuditRecords) -> None:
    client.post("/admin/password_change/", {"old_password": PASSWORD, **TWICE})

    login = only(records)
    assert told(login)[1:] == ("PASSWORD_CHANGE", "success", str(root.pk), "root")
    assert (login.actor_name, records.requests[0].request_body) == ("root", None)


def test_wrong_old_password_is_a_failure_of_who_is_signed_in(client: Client, root: User, records: AuditRecords) -> None:
    client.post("/admin/password_change/", {"old_password": "guess", **TWICE})

    login = only(records)
    assert told(login) == ("Failed", "REAUTHENTICATE", "failure", str(root.pk), "root")
    assert (login.reason, login.actor_name) == ("invalid credentials", "root")


def test_password_that_an_administrator_changes_is_done_by_the_administrator(
    client: Client, root: User, user: User, records: AuditRecords
) -> None:
    body = {"password1": NEW, "password2": NEW, "usable_password": "true"}

    response = client.post(f"/admin/auth/user/{user.pk}/password/", body)

    login = only(records)
    assert response.status_code == 302
    assert told(login)[1:] == ("PASSWORD_CHANGE", "success", str(user.pk), "ada")
    assert login.actor_name == "root"


@override_settings(MAILERS={"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}})
def test_reset_by_mail_is_recorded_step_by_step(client: Client, user: User, records: AuditRecords) -> None:
    client.post("/reset/", {"email": "ada@example.com"})
    link = re.search(r"/reset/\S+", str(mail.outbox[0].body))
    assert link is not None
    form = client.get(link[0]).headers["Location"]
    client.post(form, TWICE)

    assert [told(login)[1:] for login in records.logins] == [
        ("PASSWORD_RESET_REQUEST", "success", None, "ada@example.com"),
        ("PASSWORD_RESET", "success", str(user.pk), "ada"),
        ("LOGIN", "success", str(user.pk), "ada"),
    ]
    assert {login.method for login in records.logins} == {"reset-link"}


def test_password_that_a_script_changes_is_recorded(user: User, records: AuditRecords) -> None:
    user.set_password(NEW)
    user.save()

    (login,) = records.logins
    assert told(login)[1:] == ("PASSWORD_CHANGE", "success", str(user.pk), "ada")
    assert login.actor_type == "system"


def test_first_password_is_no_change(db: None, records: AuditRecords) -> None:
    User.objects.create_user("eve", password=PASSWORD)

    assert records.logins == []


def test_other_changes_of_a_user_are_no_event(user: User, records: AuditRecords) -> None:
    user.first_name = "Ada"
    user.save()
    user.last_name = "Lovelace"
    user.save()

    assert records.logins == []


def test_better_hash_of_the_same_password_is_no_change(client: Client, user: User, records: AuditRecords) -> None:
    hashers = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]

    with override_settings(PASSWORD_HASHERS=hashers):
        client.post("/login/", {"username": "ada", "password": PASSWORD})

    user.refresh_from_db()
    assert user.password.startswith("pbkdf2")
    assert only(records).action == "LOGIN"


def test_neither_old_nor_new_password_is_recorded(client: Client, root: User, records: AuditRecords) -> None:
    client.post("/admin/password_change/", {"old_password": PASSWORD, **TWICE})
    client.post("/admin/password_change/", {"old_password": "guess", **TWICE})

    stored = repr([vars(row) for row in records.all])
    assert PASSWORD not in stored
    assert NEW not in stored
