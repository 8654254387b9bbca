"""dj-rest-auth with tokens of REST framework alone: no session, no SimpleJWT, no signal."""

from __future__ import annotations

from typing import Any

APPS = ["rest_framework", "rest_framework.authtoken", "dj_rest_auth"]
MIDDLEWARE: list[str] = []
SETTINGS: dict[str, Any] = {
    "REST_AUTH": {"SESSION_LOGIN": False},
    "REST_FRAMEWORK": {"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"]},
}
URLS = [("auth/", "dj_rest_auth.urls")]


def visit(client: Any) -> list[int]:
    """Sign in, fail, sign out, sign out again."""
    signed_in = client.post("/auth/login/", {"username": "ada", "password": "battery staple"})
    token = {"HTTP_AUTHORIZATION": f"Token {signed_in.json()['key']}"}
    answers = [
        signed_in,
        client.post("/auth/login/", {"username": "ada", "password": "guess"}),
        client.post("/auth/logout/", **token),
        client.post("/auth/logout/"),
    ]
    return [answer.status_code for answer in answers]
