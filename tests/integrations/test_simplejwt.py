"""Sign-ins, refreshes and sign-outs by SimpleJWT, which sends no signal, through its own views and others."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import rest_framework_simplejwt
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils import translation
from rest_framework.test import APIClient
from rest_framework_simplejwt.serializers import api_settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, SlidingToken

from otel_audit.testing import AuditRecords

from .conftest import PASSWORD, only, told

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db]

GOOD = {"username": "ada", "password": PASSWORD}
BAD = {"username": "ada", "password": "guess"}


@pytest.fixture
def rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site whose refresh tokens serve once."""
    monkeypatch.setattr(api_settings, "ROTATE_REFRESH_TOKENS", True)  # which SimpleJWT reads once
    monkeypatch.setattr(api_settings, "BLACKLIST_AFTER_ROTATION", True)


@pytest.mark.parametrize(
    "path",
    ["/token/", "/token/sliding/", "/token/own-post/", "/token/with-session/", "/token/composed/", "/jwt/"],
)
def test_obtaining_a_token_is_one_sign_in(api: APIClient, user: User, records: AuditRecords, path: str) -> None:
    response = api.post(path, GOOD)

    login = only(records)
    assert response.status_code in (200, 204)
    assert told(login) == ("Sign in", "LOGIN", "success", str(user.pk), "ada")
    assert login.actor_name == "ada"
    assert (records.requests[0].user, records.requests[0].actor_name) == (str(user.pk), "ada")
    assert login.method == "simplejwt"


@pytest.mark.parametrize("update", [True, False])
def test_updating_the_last_login_adds_no_event(
    api: APIClient, user: User, records: AuditRecords, monkeypatch: pytest.MonkeyPatch, update: bool
) -> None:
    monkeypatch.setattr(api_settings, "UPDATE_LAST_LOGIN", update)

    api.post("/token/", GOOD)

    user.refresh_from_db()
    assert (user.last_login is not None) is update
    assert only(records).status == "Sign in"


@pytest.mark.parametrize(
    ("path", "status", "method"),
    [
        ("/token/", 401, "simplejwt"),
        ("/token/sliding/", 401, "simplejwt"),
        ("/token/own-post/", 401, "simplejwt"),
        ("/token/composed/", 401, "simplejwt"),
        ("/jwt/", 401, "password"),
    ],
)
def test_wrong_password_is_one_failure_with_the_attempted_name(
    api: APIClient, user: User, records: AuditRecords, path: str, status: int, method: str
) -> None:
    response = api.post(path, BAD)

    login = only(records)
    assert response.status_code == status
    assert told(login) == ("Failed", "LOGIN", "failure", None, "ada")
    assert (login.method, login.reason, login.actor_name) == (method, "invalid credentials", "anonymous")
    assert records.requests[0].user is None


@pytest.mark.parametrize(
    ("body", "name", "reason"),
    [
        ({"username": "ada"}, "ada", "required: password"),
        ({}, "", "required: username, required: password"),
        ({"username": "ada", "password": ""}, "ada", "blank: password"),
    ],
)
def test_incomplete_attempt_says_what_was_missing(
    api: APIClient, records: AuditRecords, body: dict[str, str], name: str, reason: str
) -> None:
    api.post("/token/", body)

    assert told(only(records)) == ("Failed", "LOGIN", "failure", None, name)
    assert only(records).reason == reason


def test_inactive_user_is_told_apart(api: APIClient, user: User, records: AuditRecords) -> None:
    User.objects.update(is_active=False)

    response = api.post("/token/", GOOD)

    assert response.status_code == 401
    assert told(only(records)) == ("Failed", "LOGIN", "failure", str(user.pk), "ada")
    assert only(records).reason == "the user is inactive"
    assert records.requests[0].user is None


def test_inactive_user_whom_the_backend_lets_through_is_told_apart(
    api: APIClient, user: User, records: AuditRecords
) -> None:
    User.objects.update(is_active=False)

    with override_settings(AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.AllowAllUsersModelBackend"]):
        api.post("/token/", GOOD)

    assert told(only(records)) == ("Failed", "LOGIN", "failure", str(user.pk), "ada")
    assert only(records).reason == "the user is inactive"


def test_refusal_after_the_right_password_is_a_failure(api: APIClient, user: User, records: AuditRecords) -> None:
    response = api.post("/token/second-factor/", GOOD)

    login = only(records)
    assert response.status_code == 401
    assert told(login) == ("Failed", "LOGIN", "failure", str(user.pk), "ada")
    assert login.reason == "second factor"
    assert (login.actor_name, records.requests[0].user) == ("anonymous", None)


def test_throttled_attempt_is_a_failure_and_its_body_stays_unread(
    api: APIClient, user: User, records: AuditRecords
) -> None:
    response = api.post("/token/throttled/", GOOD)

    assert response.status_code == 429
    assert told(only(records)) == ("Failed", "LOGIN", "failure", None, "")
    assert only(records).reason == "throttled"


def test_broken_body_is_a_failure(api: APIClient, records: AuditRecords) -> None:
    response = api.generic("POST", "/token/", b'{"username": ', content_type="application/json")

    assert response.status_code == 400
    assert only(records).reason == "parse error"


def test_own_serializer_on_the_token_view_is_a_sign_in(api: APIClient, user: User, records: AuditRecords) -> None:
    api.post("/token/own-serializer/", {"code": "ada"})

    assert told(only(records)) == ("Sign in", "LOGIN", "success", str(user.pk), "ada")


def test_crash_in_a_token_view_of_unknown_purpose_is_no_sign_in(api: APIClient, records: AuditRecords) -> None:
    response = api.post("/token/own-serializer/", {"code": "nobody"})

    assert response.status_code == 500
    assert records.logins == []
    assert records.requests[0].error_type.endswith("DoesNotExist")


@pytest.mark.parametrize("method", ["get", "options", "put"])
def test_other_methods_are_no_sign_in(api: APIClient, records: AuditRecords, method: str) -> None:
    getattr(api, method)("/token/")

    assert len(records.requests) == 1
    assert records.logins == []


# ── refresh ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/token/refresh/", "/token/own-refresh/"])
def test_refresh_is_recorded_with_the_user_of_the_token(
    api: APIClient, user: User, records: AuditRecords, path: str
) -> None:
    response = api.post(path, {"refresh": str(RefreshToken.for_user(user))})

    login = only(records)
    assert response.status_code == 200
    assert told(login)[:4] == ("Refresh", "REFRESH", "success", str(user.pk))
    assert (login.method, records.requests[0].user) == ("simplejwt", str(user.pk))


def test_claim_that_is_not_the_actors_key_is_kept_aside(api: APIClient, user: User, records: AuditRecords) -> None:
    with override_settings(OTEL_AUDIT={"USER_PK_NAME": "username"}):
        api.post("/token/refresh/", {"refresh": str(RefreshToken.for_user(user))})
        api.post("/token/", GOOD)

    refreshed, signed_in = records.logins
    assert (refreshed.user, refreshed.extra_informations["subject"]) == (None, str(user.pk))
    assert (signed_in.user, signed_in.extra_informations.keys()) == ("ada", {"audit.refresh.id"})


def test_refresh_token_from_a_cookie_is_recorded(api: APIClient, user: User, records: AuditRecords) -> None:
    api.cookies["refresh"] = str(RefreshToken.for_user(user))

    api.post("/token/cookie/", {})

    assert told(only(records))[:4] == ("Refresh", "REFRESH", "success", str(user.pk))


def test_sliding_token_refresh_is_recorded(api: APIClient, user: User, records: AuditRecords) -> None:
    response = api.post("/token/sliding/refresh/", {"token": str(SlidingToken.for_user(user))})

    assert response.status_code == 200
    assert told(only(records))[:4] == ("Refresh", "REFRESH", "success", str(user.pk))


@pytest.mark.parametrize("path", ["/token/refresh/", "/token/own-refresh/"])
def test_rotation_is_a_refresh_and_no_sign_out(
    api: APIClient, user: User, records: AuditRecords, rotation: None, path: str
) -> None:
    api.post(path, {"refresh": str(RefreshToken.for_user(user))})

    assert told(only(records))[:4] == ("Refresh", "REFRESH", "success", str(user.pk))


def test_reused_refresh_token_is_a_failure_that_names_its_subject_aside(
    api: APIClient, user: User, records: AuditRecords, rotation: None
) -> None:
    token = str(RefreshToken.for_user(user))
    api.post("/token/refresh/", {"refresh": token})
    records.clear()

    response = api.post("/token/refresh/", {"refresh": token})

    login = only(records)
    assert response.status_code == 401
    assert told(login) == ("Failed", "REFRESH", "failure", None, "")
    assert (login.reason, login.extra_informations["subject"]) == ("Token is blacklisted", str(user.pk))
    assert (login.actor_name, records.requests[0].user) == ("anonymous", None)


def _expired(user: User) -> str:
    token = RefreshToken.for_user(user)
    token.set_exp(lifetime=-timedelta(days=1))
    return str(token)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_expired, "Token is expired"),
        (lambda user: "rubbish", "Token is invalid"),
        (lambda user: str(AccessToken.for_user(user)), "Token has wrong type"),
        (lambda user: "", "blank: refresh"),
    ],
    ids=["expired", "rubbish", "access", "blank"],
)
def test_refused_refresh_says_why(api: APIClient, user: User, records: AuditRecords, make: Any, reason: str) -> None:
    api.post("/token/refresh/", {"refresh": make(user)})

    assert told(only(records)) == ("Failed", "REFRESH", "failure", None, "")
    assert only(records).reason == reason


def test_refused_refresh_in_a_view_of_the_sites_own_says_why(api: APIClient, user: User, records: AuditRecords) -> None:
    response = api.post("/token/own-refresh/", {"refresh": "rubbish"})

    assert response.status_code == 500  # SimpleJWT's views turn the error into a 401
    assert told(only(records)) == ("Failed", "REFRESH", "failure", None, "")
    assert only(records).reason == "Token is invalid"


def test_refresh_whose_answer_is_a_refusal_is_a_failure(api: APIClient, user: User, records: AuditRecords) -> None:
    api.post("/token/own-rotation/", {"refresh": str(RefreshToken.for_user(user))})

    assert told(only(records))[:3] == ("Failed", "REFRESH", "failure")
    assert only(records).reason == "refused with status 403"


def test_refresh_for_an_inactive_user_is_a_failure(api: APIClient, user: User, records: AuditRecords) -> None:
    token = str(RefreshToken.for_user(user))
    User.objects.update(is_active=False)

    response = api.post("/token/refresh/", {"refresh": token})

    assert response.status_code == 401
    assert told(only(records)) == ("Failed", "REFRESH", "failure", None, "")
    assert only(records).reason == "no active account"
    assert records.requests[0].user is None


def test_refresh_for_a_deleted_user_is_a_failure(api: APIClient, user: User, records: AuditRecords) -> None:
    token = str(RefreshToken.for_user(user))
    user.delete()

    api.post("/token/refresh/", {"refresh": token})

    assert told(only(records)) == ("Failed", "REFRESH", "failure", None, "")
    assert only(records).reason == "DoesNotExist"


def test_reason_is_english_whatever_language_the_client_asks_for(
    api: APIClient, user: User, records: AuditRecords
) -> None:
    texts = Path(rest_framework_simplejwt.__file__).parent / "locale"
    with override_settings(LOCALE_PATHS=[texts]), translation.override("de"):
        response = api.post("/token/refresh/", {"refresh": str(AccessToken.for_user(user))})

    assert response.json()["detail"] == "Token hat den falschen Typ"
    assert only(records).reason == "Token has wrong type"


# ── sign-out and verification ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/token/blacklist/", "/token/revoke/"])
def test_blacklisting_a_token_is_a_sign_out(api: APIClient, user: User, records: AuditRecords, path: str) -> None:
    response = api.post(path, {"refresh": str(RefreshToken.for_user(user))})

    login = only(records)
    assert response.status_code in (200, 204)
    assert told(login)[:4] == ("Sign out", "LOGOUT", "success", str(user.pk))
    assert (login.extra_informations["revoked"], records.requests[0].user) == (True, str(user.pk))


def test_blacklisting_a_token_again_is_a_failure(api: APIClient, user: User, records: AuditRecords) -> None:
    token = RefreshToken.for_user(user)
    token.blacklist()

    api.post("/token/blacklist/", {"refresh": str(token)})

    assert told(only(records)) == ("Failed", "LOGOUT", "failure", None, "")
    assert only(records).reason == "Token is blacklisted"


def test_good_token_that_is_verified_is_no_event(api: APIClient, user: User, records: AuditRecords) -> None:
    token = str(AccessToken.for_user(user))

    response = api.post("/token/verify/", {"token": token})

    assert response.status_code == 200
    assert records.logins == []
    assert (records.requests[0].request_body, records.requests[0].response_body) == (None, None)


def test_bad_token_that_is_verified_is_a_failure(api: APIClient, records: AuditRecords) -> None:
    api.post("/token/verify/", {"token": "rubbish"})

    assert told(only(records)) == ("Failed", "VERIFY", "failure", None, "")
    assert only(records).reason == "Token is invalid"


# ── tokens made in views of the site's own ──────────────────────────────────────────────────────


def test_token_whose_view_refuses_in_the_end_is_a_failure(api: APIClient, user: User, records: AuditRecords) -> None:
    api.post("/jwt/refused/", {"username": "ada"})

    assert told(only(records)) == ("Failed", "LOGIN", "failure", str(user.pk), "ada")
    assert only(records).reason == "refused with status 403"
    assert records.requests[0].user is None


def test_token_of_the_sites_own_type_is_no_sign_in(api: APIClient, user: User, records: AuditRecords) -> None:
    api.post("/jwt/mail-link/", {})

    assert records.logins == []


def test_token_made_for_somebody_else_leaves_the_actor_who_made_it(
    api: APIClient, user: User, bob: User, records: AuditRecords
) -> None:
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {AccessToken.for_user(user)}")

    response = api.post("/jwt/for-another/", {})

    assert response.status_code == 204
    assert told(only(records)) == ("Sign in", "LOGIN", "success", str(bob.pk), "bob")
    assert records.requests[0].actor_name == "ada"


def test_token_made_outside_a_request_signs_nobody_in(user: User, records: AuditRecords) -> None:
    RefreshToken.for_user(user)

    assert len(records) == 0


def test_neither_password_nor_token_is_recorded(api: APIClient, user: User, records: AuditRecords) -> None:
    tokens = api.post("/token/", GOOD).json()
    access = api.post("/token/refresh/", {"refresh": tokens["refresh"]}).json()["access"]
    api.post("/token/verify/", {"token": access})
    api.post("/token/blacklist/", {"refresh": tokens["refresh"]})
    api.post("/token/refresh/", {"refresh": tokens["refresh"]})

    stored = repr([vars(row) for row in records.all])
    assert len(records.logins) == 4
    for secret in (PASSWORD, tokens["access"], tokens["refresh"], access):
        assert secret not in stored
        assert secret.split(".")[-1] not in stored
