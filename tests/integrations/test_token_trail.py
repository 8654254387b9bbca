"""What ties a sign-in by tokens to its later requests, refreshes and its end."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer, api_settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, SlidingToken

from otel_audit.attributes import AUDIT_REFRESH_ID, AUDIT_REFRESH_NEXT_ID
from otel_audit.integrations.fingerprints import jwt_fingerprint, token_fingerprint
from otel_audit.testing import AuditRecords

from .conftest import PASSWORD

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db]

GOOD = {"username": "ada", "password": PASSWORD}


@pytest.fixture
def rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site whose refresh tokens serve once."""
    monkeypatch.setattr(api_settings, "ROTATE_REFRESH_TOKENS", True)  # which SimpleJWT reads once
    monkeypatch.setattr(api_settings, "BLACKLIST_AFTER_ROTATION", True)


@pytest.fixture
def own_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that gives each sign-in an id, which its refresh token hands on to all access tokens."""
    original = TokenObtainPairSerializer.get_token

    def get_token(cls: Any, user: Any) -> Any:
        token = original.__func__(cls, user)  # type: ignore[attr-defined]  # a class method
        token["sid"] = "7f0c"
        return token

    monkeypatch.setattr(TokenObtainPairSerializer, "get_token", classmethod(get_token))


def visit(token: Any, keyword: str = "Bearer") -> None:
    """Send a request that shows a token."""
    assert APIClient().get("/who/", headers={"Authorization": f"{keyword} {token}"}).status_code == 200


def sessions(rows: list[Any]) -> list[str]:
    """Return the fingerprint of each row."""
    return [row.session_id for row in rows]


@pytest.mark.parametrize(
    ("path", "name", "keyword"),
    [
        ("/token/", "access", "Bearer"),
        ("/token/composed/", "access", "Bearer"),
        ("/token/with-session/", "access", "Bearer"),
        ("/old/token/", "access", "Bearer"),
        ("/old/generic/", "access", "Bearer"),
        ("/auth-token/", "token", "Token"),
        ("/auth-token/custom/", "token", "Token"),
        ("/old/auth-token/", "token", "Token"),
    ],
)
def test_sign_in_and_the_requests_that_show_its_token_share_a_fingerprint(
    api: APIClient, user: User, records: AuditRecords, path: str, name: str, keyword: str
) -> None:
    token = api.post(path, GOOD).json()[name]
    visit(token, keyword)
    visit(token, keyword)

    (fingerprint,) = set(sessions(records.requests[1:]))
    assert len(fingerprint) == 32
    assert sessions(records.logins) == [fingerprint]


def test_request_that_signs_in_shares_the_fingerprint(api: APIClient, user: User, records: AuditRecords) -> None:
    api.post("/token/", GOOD)

    assert sessions(records.requests) == sessions(records.logins) != [""]


def test_sliding_token_keeps_its_fingerprint_when_it_is_refreshed(
    api: APIClient, user: User, records: AuditRecords
) -> None:
    token = api.post("/token/sliding/", GOOD).json()["token"]
    api.post("/token/sliding/refresh/", {"token": token})

    first, second = sessions(records.logins)
    assert first == second != ""


@pytest.mark.parametrize("path", ["/token/refresh/", "/token/own-refresh/"])
def test_refresh_is_tied_to_its_sign_in_and_to_the_requests_that_follow(
    api: APIClient, user: User, records: AuditRecords, path: str
) -> None:
    refresh = api.post("/token/", GOOD).json()["refresh"]
    visit(api.post(path, {"refresh": refresh}).json()["access"])
    api.post("/token/blacklist/", {"refresh": refresh})
    api.post("/token/refresh/", {"refresh": refresh})

    signed_in, refreshed, signed_out, reused = records.logins
    assert refreshed.session_id == records.requests[2].session_id not in ("", signed_in.session_id)
    assert (reused.status, reused.reason) == ("Failed", "Token is blacklisted")
    assert len({row.extra_informations[AUDIT_REFRESH_ID] for row in records.logins}) == 1
    assert sessions([signed_out, reused]) == ["", ""]  # no access token was shown


@pytest.mark.parametrize("path", ["/token/refresh/", "/token/own-refresh/"])
def test_rotation_names_the_token_that_goes_and_the_one_that_comes(
    api: APIClient, user: User, records: AuditRecords, rotation: None, path: str
) -> None:
    first = api.post("/token/", GOOD).json()["refresh"]
    second = api.post(path, {"refresh": first}).json()["refresh"]
    api.post(path, {"refresh": second})

    begun, turned, turned_again = (row.extra_informations for row in records.logins)
    assert begun[AUDIT_REFRESH_ID] == turned[AUDIT_REFRESH_ID]
    assert turned[AUDIT_REFRESH_NEXT_ID] == turned_again[AUDIT_REFRESH_ID]
    assert len({begun[AUDIT_REFRESH_ID], turned[AUDIT_REFRESH_NEXT_ID], turned_again[AUDIT_REFRESH_NEXT_ID]}) == 3


def test_claim_of_the_site_names_one_session_from_beginning_to_end(
    api: APIClient, user: User, records: AuditRecords, own_sessions: None, rotation: None
) -> None:
    tokens = api.post("/token/", GOOD).json()
    visit(tokens["access"])
    tokens = api.post("/token/refresh/", {"refresh": tokens["refresh"]}).json()
    visit(tokens["access"])
    api.post("/token/blacklist/", {"refresh": tokens["refresh"]})

    (fingerprint,) = set(sessions(records.requests) + sessions(records.logins))
    assert fingerprint != ""


def test_view_of_the_site_that_makes_tokens_ties_them(api: APIClient, user: User, records: AuditRecords) -> None:
    refresh = api.post("/jwt/", GOOD).json()["refresh"]
    api.post("/token/refresh/", {"refresh": refresh})

    made, refreshed = records.logins
    assert len(made.session_id) == 32
    assert made.extra_informations[AUDIT_REFRESH_ID] == refreshed.extra_informations[AUDIT_REFRESH_ID]


def test_token_that_somebody_makes_for_another_is_tied_to_the_other(
    api: APIClient, user: User, bob: User, records: AuditRecords
) -> None:
    api.force_login(user)
    records.clear()

    api.post("/jwt/for-another/")

    (login,) = records.logins
    assert login.session_id == ""
    assert login.extra_informations.keys() == {AUDIT_REFRESH_ID}
    assert records.requests[0].session_id != ""


def test_tokens_of_two_sign_ins_have_two_fingerprints(api: APIClient, user: User, records: AuditRecords) -> None:
    for _ in range(2):
        visit(api.post("/token/", GOOD).json()["access"])

    first, first_visit, second, second_visit = sessions(records.requests)
    assert (first, second) == (first_visit, second_visit)
    assert first != second


def test_session_that_a_token_client_also_has_does_not_count(user: User, bob: User, records: AuditRecords) -> None:
    client = Client()
    client.force_login(bob)
    records.clear()

    for token in (AccessToken.for_user(user), AccessToken.for_user(user)):
        client.get("/who/", headers={"Authorization": f"Bearer {token}"})

    first, second = sessions(records.requests)
    assert first != second


@pytest.mark.parametrize("make", [AccessToken.for_user, SlidingToken.for_user, RefreshToken.for_user])
@pytest.mark.parametrize("broken", [True, False])
def test_token_that_authenticates_nobody_has_no_fingerprint(
    user: User, records: AuditRecords, make: Any, broken: bool
) -> None:
    token = str(make(user))
    if broken:
        token = token[:-4] + "AAAA"
    elif make != RefreshToken.for_user:
        user.delete()

    APIClient().get("/who/", headers={"Authorization": f"Bearer {token}"})

    assert (records.requests[0].status_code, records.requests[0].session_id) == (401, "")


@pytest.mark.parametrize(("jti", "length"), [("", 0), ("\ud800", 32), ("j" * 60_000, 32)])
def test_strange_id_of_a_token_breaks_nothing(user: User, records: AuditRecords, jti: str, length: int) -> None:
    token = AccessToken.for_user(user)
    token["jti"] = jti

    visit(token)

    assert (records.requests[0].user, len(records.requests[0].session_id)) == (str(user.pk), length)


@pytest.mark.parametrize("claims", [{}, {"jti": 7}, {"jti": None}, {"jti": ["a"], "sid": {}}])
def test_claims_that_name_no_identity_have_no_fingerprint(claims: dict[str, Any]) -> None:
    assert jwt_fingerprint(claims) is None


@pytest.mark.parametrize("auth", [None, "secret", b"secret", {"jti": "a"}, object(), User(username="ada")])
def test_what_is_no_known_token_has_no_fingerprint(auth: Any) -> None:
    assert token_fingerprint(auth) is None


def test_key_and_id_of_a_token_are_recorded_nowhere(api: APIClient, user: User, records: AuditRecords) -> None:
    key = api.post("/auth-token/", GOOD).json()["token"]
    visit(key, "Token")
    tokens = api.post("/token/", GOOD).json()
    visit(tokens["access"])

    kept = repr([vars(row) for row in records.all])
    for secret in (key, *tokens.values(), *(AccessToken(tokens["access"], verify=False).payload["jti"],)):
        assert secret not in kept


def test_list_of_many_tokens_ties_a_sign_in_to_none(
    user: User, records: AuditRecords, settings: Any, rf: Any, django_user_model: Any
) -> None:
    for number in range(20):
        Token.objects.create(user=django_user_model.objects.create(username=f"u{number}"))
    Token.objects.create(user=user)
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.ListsTokens"]

    APIClient().post("/auth-token/", GOOD, format="json")

    assert sessions(records.logins) == [""]


class ListsTokens:
    """A site's middleware that looks at every token."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        list(Token.objects.all())
        return self.get_response(request)
