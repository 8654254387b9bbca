"""Recording sign-ins asks the site's database for nothing, and changes no response."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from otel_audit.testing import AuditRecords

from .conftest import PASSWORD

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db]

GOOD = {"username": "ada", "password": PASSWORD}
BAD = {"username": "ada", "password": "guess"}
CASES: dict[str, tuple[str, str, Any]] = {
    "obtain": ("post", "/token/", GOOD),
    "obtain, failed": ("post", "/token/", BAD),
    "obtain sliding": ("post", "/token/sliding/", GOOD),
    "refresh": ("post", "/token/refresh/", "refresh"),
    "refresh, failed": ("post", "/token/refresh/", {"refresh": "rubbish"}),
    "verify": ("post", "/token/verify/", "access"),
    "blacklist": ("post", "/token/blacklist/", "refresh"),
    "custom JWT view": ("post", "/jwt/", GOOD),
    "DRF token": ("post", "/auth-token/", GOOD),
    "DRF token, failed": ("post", "/auth-token/", BAD),
    "session": ("post", "/login/", GOOD),
    "session, failed": ("post", "/login/", BAD),
    "sign-out of nobody": ("post", "/logout/", {}),
    "plain view": ("get", "/plain/", None),
    "plain view with a bearer token": ("get", "/who/", "bearer"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_recording_makes_no_query(user: User, records: AuditRecords, case: tuple[str, str, Any]) -> None:
    with override_settings(OTEL_AUDIT={"ENABLED": False}):
        _send(user, case)  # whatever is asked once in a process has been asked
        bare, bare_response = _queries(user, case)

    audited, response = _queries(user, case)

    assert audited == bare
    assert (response.status_code, set(response.headers), response.get("Vary")) == (
        bare_response.status_code,
        set(bare_response.headers),
        bare_response.get("Vary"),
    )
    assert len(records.requests) == 1


def _queries(user: User, case: tuple[str, str, Any]) -> tuple[int, Any]:
    with CaptureQueriesContext(connection) as queries:
        response, before = _send(user, case, queries)
    return len(queries) - before, response


def _send(user: User, case: tuple[str, str, Any], queries: Any = ()) -> tuple[Any, int]:
    method, path, body = case
    headers = {}
    if body == "bearer":
        headers, body = {"HTTP_AUTHORIZATION": f"Bearer {AccessToken.for_user(user)}"}, None
    elif body == "refresh":
        body = {"refresh": str(RefreshToken.for_user(user))}
    elif body == "access":
        body = {"token": str(AccessToken.for_user(user))}
    client = APIClient()
    client.default_format = "json" if "login" not in path else "multipart"
    before = len(queries)
    return getattr(client, method)(path, body, **headers), before
