"""What ties a sign-in to its later requests, and who really acts when somebody acts as another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings

from otel_audit.integrations.identity import session_fingerprint
from otel_audit.integrations.impersonation import impersonated_by
from otel_audit.testing import AuditRecords

from .conftest import PASSWORD

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db]

AUDIT = {"DATABASE": "audit"}


def fingerprints(rows: list[Any]) -> list[str | None]:
    """Return the fingerprint of the session of each row."""
    return [row.session_id or None for row in rows]


def test_sign_in_and_its_later_requests_share_the_fingerprint_of_the_session(
    client: Client, user: User, records: AuditRecords
) -> None:
    client.post("/login/", {"username": "ada", "password": PASSWORD})
    client.get("/hello/")
    client.get("/who/")
    client.post("/logout/")

    (fingerprint,) = set(fingerprints(records.requests))
    assert fingerprint is not None
    assert fingerprints(records.logins) == [fingerprint] * 2


def test_key_of_the_session_is_recorded_nowhere(client: Client, user: User, records: AuditRecords) -> None:
    client.post("/login/", {"username": "ada", "password": PASSWORD})
    client.get("/hello/")

    assert client.session.session_key not in repr([vars(row) for row in records.all])


def test_sessions_of_two_people_have_different_fingerprints(user: User, bob: User, records: AuditRecords) -> None:
    for name in ("ada", "bob"):
        Client().post("/login/", {"username": name, "password": PASSWORD})

    first, second = fingerprints(records.logins)
    assert first != second


def test_request_without_a_session_has_no_fingerprint(client: Client, records: AuditRecords) -> None:
    client.get("/hello/")

    assert records.requests[0].extra_informations is None


@pytest.mark.parametrize("cookie", ["x" * 32, "\x7f", "é" * 8])
def test_cookie_that_nobody_has_given_out_has_no_fingerprint(
    client: Client, records: AuditRecords, cookie: str
) -> None:
    client.cookies["sessionid"] = cookie

    client.get("/hello/")

    assert fingerprints(records.requests) == [None]


@override_settings(OTEL_AUDIT={**AUDIT, "RESOLVE_ACTOR": False})
def test_session_that_nobody_looked_up_has_no_fingerprint(client: Client, user: User, records: AuditRecords) -> None:
    client.force_login(user)
    records.clear()

    client.get("/hello/")

    assert fingerprints(records.requests) == [None]


@pytest.mark.parametrize("secret", ["one", b"two"])
def test_fingerprint_depends_on_the_secret_of_the_site(db: None, secret: str | bytes) -> None:
    request = HttpRequest()
    request.session = SessionStore()
    request.session["a"] = 1
    request.session.create()
    before = session_fingerprint(request)

    with override_settings(SECRET_KEY=secret):
        after = session_fingerprint(request)

    assert None not in (before, after)
    assert before != after


def test_failed_sign_in_under_the_own_name_is_a_failed_reauthentication(
    client: Client, user: User, records: AuditRecords
) -> None:
    client.force_login(user)
    client.get("/hello/")
    records.clear()

    client.post("/login/again/", {"password": "guess"})

    (login,) = records.logins
    assert (login.status, login.action, login.outcome, login.username) == ("Failed", "REAUTHENTICATE", "failure", "ada")
    assert login.actor_name == "ada"


# ── impersonation of the site's own ─────────────────────────────────────────────────────────────


class ActsAsBob:
    """A site's middleware that lets an administrator act as Bob."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        really = request.user
        request.user = User.objects.get(username="bob")
        impersonated_by(request, really)
        return self.get_response(request)


def test_impersonation_of_the_sites_own_names_both(
    client: Client, user: User, bob: User, records: AuditRecords, settings: Any
) -> None:
    ours = list(settings.MIDDLEWARE)
    settings.MIDDLEWARE = [*ours[:-1], f"{__name__}.ActsAsBob", ours[-1]]
    client.force_login(user)
    records.clear()

    client.post("/login/", {"username": "mallory", "password": "guess"})

    (row,) = records.requests
    (login,) = records.logins
    assert (row.user, row.actor_name) == (str(bob.pk), "bob")
    for found in (row, login):
        assert found.extra_informations["audit.impersonator.id"] == str(user.pk)
        assert found.extra_informations["audit.impersonator.name"] == "ada"


@pytest.mark.parametrize("request_", [HttpRequest(), object(), None])
def test_impersonation_outside_the_audited_site_is_ignored(user: User, request_: Any) -> None:
    impersonated_by(request_, user)


def test_nobody_is_no_impersonator(client: Client, bob: User, records: AuditRecords, settings: Any) -> None:
    ours = list(settings.MIDDLEWARE)
    settings.MIDDLEWARE = [*ours[:-1], f"{__name__}.ActsAsBob", ours[-1]]

    client.get("/hello/")

    assert records.requests[0].actor_name == "bob"
    assert records.requests[0].extra_informations is None


@pytest.mark.parametrize("history", [None, "1", [], {"1": 2}, 7])
def test_hijack_history_of_another_shape_names_nobody(
    client: Client, user: User, records: AuditRecords, history: Any
) -> None:
    client.force_login(user)
    session = client.session
    session["hijack_history"] = history
    session.save()
    records.clear()

    client.get("/hello/")

    assert records.requests[0].extra_informations is None
    assert records.requests[0].session_id
