"""The views of ``drf-audit-trail`` at their old paths."""

from __future__ import annotations

import importlib
import sys

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from otel_audit.testing import AuditRecords

from .conftest import PASSWORD, only, told

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db]


@pytest.mark.parametrize("path", ["/old/token/", "/old/generic/", "/old/auth-token/"])
def test_sign_in_is_recorded_once(api: APIClient, user: User, records: AuditRecords, path: str) -> None:
    response = api.post(path, {"username": "ada", "password": PASSWORD})

    assert response.status_code == 200
    assert told(only(records)) == ("Sign in", "LOGIN", "success", str(user.pk), "ada")
    assert records.requests[0].user == str(user.pk)
    assert records.requests[0].response_body is None


@pytest.mark.parametrize("path", ["/old/token/", "/old/generic/", "/old/auth-token/"])
def test_failure_is_recorded_once(api: APIClient, user: User, records: AuditRecords, path: str) -> None:
    response = api.post(path, {"username": "ada", "password": "guess"})

    assert response.status_code in (400, 401, 403)
    assert told(only(records)) == ("Failed", "LOGIN", "failure", None, "ada")


def test_sign_out_by_a_bearer_token_is_recorded(api: APIClient, user: User, records: AuditRecords) -> None:
    response = api.post("/old/logout/", HTTP_AUTHORIZATION=f"Bearer {AccessToken.for_user(user)}")

    assert (response.status_code, response.json()) == (200, {"detail": "Successfully logged out."})
    assert told(only(records)) == ("Sign out", "LOGOUT", "success", str(user.pk), "ada")


@pytest.mark.parametrize("authorized", [True, False])
def test_sign_out_with_the_refresh_token_revokes_it(
    api: APIClient, user: User, records: AuditRecords, authorized: bool
) -> None:
    refresh = RefreshToken.for_user(user)
    headers = {"HTTP_AUTHORIZATION": f"Bearer {refresh.access_token}"} if authorized else {}

    response = api.post("/old/logout/", {"refresh": str(refresh)}, **headers)

    assert response.status_code == 200
    assert BlacklistedToken.objects.filter(token__jti=refresh["jti"]).exists()
    assert told(only(records))[:4] == ("Sign out", "LOGOUT", "success", str(user.pk))
    assert records.requests[0].user == str(user.pk)


def test_sign_out_by_a_session_ends_it(client: Client, user: User, records: AuditRecords) -> None:
    client.force_login(user)
    records.clear()

    client.post("/old/logout/")

    assert "_auth_user_id" not in client.session
    assert told(only(records)) == ("Sign out", "LOGOUT", "success", str(user.pk), "ada")


@pytest.mark.parametrize("body", [b'{"refresh": ["a"]}', b'{"refresh": "rubbish"}', b"[]", b"{", b"\x00"])
def test_sign_out_asks_nothing_of_the_body(api: APIClient, records: AuditRecords, body: bytes) -> None:
    response = api.generic("POST", "/old/logout/", body, content_type="application/json")

    assert response.status_code == 200
    assert told(only(records)) == ("Sign out", "LOGOUT", "success", None, "")


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("otel_audit.integrations.rest_framework_simplejwt", "rest_framework_simplejwt.views", "otel-audit[jwt]"),
        (
            "otel_audit.integrations.rest_framework_authenticators",
            "rest_framework.authtoken.views",
            "otel-audit[drf]",
        ),
        ("otel_audit.api.views", "rest_framework.views", "otel-audit[drf]"),
    ],
)
def test_missing_package_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str, extra: str
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ImportError, match="pip install") as error:
        importlib.import_module(module)

    assert extra in str(error.value)
