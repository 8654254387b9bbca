"""Who acted: what authentication resolved, and the session's user when nobody asked."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings
from rest_framework.authtoken.models import Token
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from otel_audit.models import RequestAuditEvent
from otel_audit.testing import AuditRecords

from .conftest import URLS
from .doors import Door

pytestmark = [pytest.mark.urls(URLS), pytest.mark.django_db, pytest.mark.usefixtures("span_source")]

AUDIT = {"DATABASE": "audit"}


def only(records: AuditRecords) -> RequestAuditEvent:
    """Return the one request record."""
    found = records.requests
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("path", ["/whoami/", "/awhoami/", "/api/who/", "/api/deaf/"])
def test_session_user_is_the_actor(
    door: Door, records: AuditRecords, user: User, session: dict[str, str], path: str
) -> None:
    door.get(path, headers=session)

    row = only(records)
    assert (row.user, row.actor_name, row.actor_type) == (str(user.pk), "ada", "user")


@pytest.mark.parametrize("path", ["/hello/", "/ahello/"])
def test_session_user_is_the_actor_of_a_view_that_never_asks(
    door: Door, records: AuditRecords, user: User, session: dict[str, str], path: str
) -> None:
    reply = door.get(path, headers=session)

    assert (only(records).user, only(records).actor_name) == (str(user.pk), "ada")
    assert reply.header("Vary") is None


@override_settings(OTEL_AUDIT={**AUDIT, "RESOLVE_ACTOR": False})
def test_session_user_is_not_asked_for_when_told_so(door: Door, records: AuditRecords, session: dict[str, str]) -> None:
    with CaptureQueriesContext(connection) as queries:
        door.get("/hello/", headers=session)

    row = only(records)
    assert len(queries) == 0
    assert (row.user, row.actor_name) == (None, "unknown")


def test_stale_session_cookie_is_anonymous(door: Door, records: AuditRecords) -> None:
    door.get("/hello/", headers={"Cookie": "sessionid=" + "x" * 32})

    assert (only(records).user, only(records).actor_name) == (None, "anonymous")


def test_session_of_a_deleted_user_is_anonymous(
    door: Door, records: AuditRecords, user: User, session: dict[str, str]
) -> None:
    user.delete()

    door.get("/hello/", headers=session)

    assert (only(records).user, only(records).actor_name) == (None, "anonymous")


def test_simplejwt_user_is_the_actor(door: Door, records: AuditRecords, user: User) -> None:
    token = AccessToken.for_user(user)
    records.clear()

    reply = door.get("/api/deaf/", headers={"Authorization": f"Bearer {token}"})

    assert reply.status == 200
    assert (only(records).user, only(records).actor_name) == (str(user.pk), "ada")


def test_token_user_is_the_actor(door: Door, records: AuditRecords, user: User) -> None:
    token = Token.objects.create(user=user)

    reply = door.get("/api/deaf/", headers={"Authorization": f"Token {token.key}"})

    assert reply.status == 200
    assert (only(records).user, only(records).actor_name) == (str(user.pk), "ada")


@pytest.mark.parametrize("claim", ["nobody", "999999", "", None])
def test_token_of_an_unknown_user_is_refused_and_attributed_to_nobody(
    door: Door, records: AuditRecords, user: User, claim: str | None
) -> None:
    token = AccessToken()
    token["user_id"] = claim

    reply = door.get("/api/deaf/", headers={"Authorization": f"Bearer {token}"})

    row = only(records)
    assert reply.status == row.status_code
    assert (row.user, row.actor_name) == (None, "anonymous")


def test_inactive_user_is_attributed_nothing_by_a_token(door: Door, records: AuditRecords, user: User) -> None:
    token = AccessToken.for_user(user)
    user.is_active = False
    user.save()
    records.clear()

    reply = door.get("/api/deaf/", headers={"Authorization": f"Bearer {token}"})

    assert (reply.status, only(records).status_code) == (403, 403)
    assert (only(records).user, only(records).actor_name) == (None, "anonymous")


def test_unverified_token_on_a_plain_view_is_no_actor(door: Door, records: AuditRecords, user: User) -> None:
    token = RefreshToken.for_user(user).access_token
    records.clear()

    door.get("/hello/", headers={"Authorization": f"Bearer {token}"})

    assert only(records).user is None


def test_client_headers_name_no_actor(door: Door, records: AuditRecords) -> None:
    door.get(
        "/hello/",
        headers={"Baggage": "audit.actor.id=1,user.id=1", "Tracestate": "audit.actor.id=1", "Remote-User": "ada"},
    )

    assert (only(records).user, only(records).actor_name) == (None, "anonymous")


@override_settings(OTEL_AUDIT={**AUDIT, "USER_PK_NAME": "email"})
def test_key_of_the_actor_can_be_another_attribute(door: Door, records: AuditRecords, session: dict[str, str]) -> None:
    door.get("/hello/", headers=session)

    assert (only(records).user, only(records).actor_name) == ("ada@example.com", "ada")


@override_settings(OTEL_AUDIT={**AUDIT, "USER_PK_NAME": "nonsense"})
def test_unknown_attribute_falls_back_to_the_key(
    door: Door, records: AuditRecords, user: User, session: dict[str, str]
) -> None:
    door.get("/hello/", headers=session)

    assert only(records).user == str(user.pk)


@pytest.mark.parametrize("path", ["/hello/", "/ahello/", "/deaf/", "/missing/", "/crash/", "/api/deaf/"])
def test_request_without_a_session_cookie_costs_no_query(door: Door, records: AuditRecords, path: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        door.get(path)

    assert len(records.requests) == 1
    assert len(queries) == 0


@pytest.mark.parametrize("path", ["/whoami/", "/api/who/"])
def test_view_that_asks_costs_no_query_more_than_without_us(
    door: Door, session: dict[str, str], settings: Any, path: str
) -> None:
    ours = settings.MIDDLEWARE

    with CaptureQueriesContext(connection) as audited:
        door.get(path, headers=session)
    settings.MIDDLEWARE = [name for name in ours if not name.startswith("otel_audit.")]
    with CaptureQueriesContext(connection) as bare:
        door.get(path, headers=session)

    assert len(audited) == len(bare)


@pytest.mark.parametrize("path", ["/spoil_user/", "/delete_user/", "/ask_then_spoil_user/", "/broken_user/"])
def test_view_that_spoils_the_user_is_attributed_to_who_was_there_before(
    door: Door, records: AuditRecords, user: User, session: dict[str, str], path: str
) -> None:
    reply = door.get(path, headers=session)

    assert reply.body == b"spoilt"
    assert (only(records).user, only(records).actor_name) == (str(user.pk), "ada")
