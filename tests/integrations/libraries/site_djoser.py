"""djoser: tokens of REST framework, and of SimpleJWT, by its own URLs."""

from __future__ import annotations

from typing import Any

APPS = ["rest_framework", "rest_framework.authtoken", "djoser"]
MIDDLEWARE: list[str] = []
SETTINGS: dict[str, Any] = {
    "REST_FRAMEWORK": {"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"]},
}
URLS: list[tuple[str, str]] = [
    ("auth/", "djoser.urls"),
    ("auth/", "djoser.urls.authtoken"),
    ("auth/", "djoser.urls.jwt"),
]


def visit(client: Any) -> list[int]:
    """Sign in, fail, change the password, sign out."""
    signed_in = client.post("/auth/token/login/", {"username": "ada", "password": "battery staple"})
    token = {"HTTP_AUTHORIZATION": f"Token {signed_in.json()['auth_token']}"}
    change = {"current_password": "battery staple", "new_password": "staple battery 7"}
    answers = [
        signed_in,
        client.post("/auth/token/login/", {"username": "ada", "password": "guess"}),
        client.post("/auth/jwt/create/", {"username": "ada", "password": "battery staple"}),
        client.post("/auth/users/set_password/", change, **token),
        client.post("/auth/token/logout/", **token),
    ]
    return [answer.status_code for answer in answers]
