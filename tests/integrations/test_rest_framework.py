"""REST framework: its token view, its ways to authenticate an ordinary request, and exceptions it answers itself."""

from __future__ import annotations

from base64 import b64encode

import pytest
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken

from otel_audit.testing import AuditRecords

from .conftest import PASSWORD, only, told

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db]


@pytest.mark.parametrize("path", ["/auth-token/", "/auth-token/custom/"])
@pytest.mark.parametrize("format_", ["json", "multipart"])
def test_obtaining_a_token_is_one_sign_in(
    api: APIClient, user: User, records: AuditRecords, path: str, format_: str
) -> None:
    response = api.post(path, {"username": "ada", "password": PASSWORD}, format=format_)

    login = only(records)
    assert response.status_code == 200
    assert told(login) == ("Sign in", "LOGIN", "success", str(user.pk), "ada")
    assert (login.method, login.actor_name) == ("drf-token", "ada")
    assert records.requests[0].user == str(user.pk)
    assert response.json()["token"] not in repr([vars(row) for row in records.all])


@pytest.mark.parametrize("path", ["/auth-token/", "/auth-token/custom/"])
def test_wrong_password_is_one_failure(api: APIClient, user: User, records: AuditRecords, path: str) -> None:
    response = api.post(path, {"username": "ada", "password": "guess"})

    login = only(records)
    assert response.status_code == 400
    assert told(login) == ("Failed", "LOGIN", "failure", None, "ada")
    assert (login.method, login.reason) == ("drf-token", "invalid credentials")


def test_incomplete_attempt_says_what_was_missing(api: APIClient, records: AuditRecords) -> None:
    api.post("/auth-token/", {"username": "ada"})

    assert told(only(records)) == ("Failed", "LOGIN", "failure", None, "ada")
    assert only(records).reason == "required: password"


def test_inactive_user_is_told_apart(api: APIClient, user: User, records: AuditRecords) -> None:
    User.objects.update(is_active=False)

    api.post("/auth-token/", {"username": "ada", "password": PASSWORD})

    assert told(only(records)) == ("Failed", "LOGIN", "failure", str(user.pk), "ada")
    assert only(records).reason == "the user is inactive"


def _basic(password: str) -> str:
    return "Basic " + b64encode(f"ada:{password}".encode()).decode()


@pytest.mark.parametrize("scheme", ["Basic", "Bearer", "Token"])
def test_right_credentials_on_an_ordinary_view_are_no_sign_in(
    api: APIClient, user: User, records: AuditRecords, scheme: str
) -> None:
    header = {
        "Basic": _basic(PASSWORD),
        "Bearer": f"Bearer {AccessToken.for_user(user)}",
        "Token": f"Token {Token.objects.create(user=user)}",
    }[scheme]

    response = api.get("/who/", HTTP_AUTHORIZATION=header)

    assert response.json() == {"user": "ada"}
    assert records.logins == []
    assert records.requests[0].user == str(user.pk)


@pytest.mark.parametrize("header", ["Bearer rubbish", "Token rubbish", "Basic rubbish", "Bearer", "Basic " + "=" * 8])
def test_bad_header_on_an_ordinary_view_is_no_sign_in(api: APIClient, records: AuditRecords, header: str) -> None:
    response = api.get("/who/", HTTP_AUTHORIZATION=header)

    assert response.status_code == 401
    assert records.logins == []
    assert records.requests[0].user is None


def test_wrong_basic_password_on_an_ordinary_view_is_a_failure(
    api: APIClient, user: User, records: AuditRecords
) -> None:
    response = api.get("/who/", HTTP_AUTHORIZATION=_basic("guess"))

    login = only(records)
    assert response.status_code == 401
    assert told(login) == ("Failed", "LOGIN", "failure", None, "ada")
    assert (login.method, login.reason) == ("basic", "invalid credentials")


def test_exception_that_rest_framework_answers_is_on_the_record(api: APIClient, records: AuditRecords) -> None:
    response = api.get("/refused/")

    row = records.requests[0]
    assert (response.status_code, row.status_code) == (500, 500)
    assert (row.error_type, row.error_message) == ("rest_framework.exceptions.APIException", "the shelf is empty")
    assert 'raise APIException("the shelf is empty", "empty_shelf")' in row.error_stacktrace
