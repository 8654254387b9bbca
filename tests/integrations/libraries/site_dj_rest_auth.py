"""dj-rest-auth with SimpleJWT and a session: two hooks see each sign-in."""

from __future__ import annotations

from typing import Any

APPS = ["rest_framework", "rest_framework.authtoken", "rest_framework_simplejwt.token_blacklist", "dj_rest_auth"]
MIDDLEWARE: list[str] = []
SETTINGS: dict[str, Any] = {
    "REST_AUTH": {"USE_JWT": True, "JWT_AUTH_HTTPONLY": False},
    "REST_FRAMEWORK": {"DEFAULT_AUTHENTICATION_CLASSES": ["dj_rest_auth.jwt_auth.JWTCookieAuthentication"]},
}
URLS: list[tuple[str, str]] = [("auth/", "dj_rest_auth.urls")]


def visit(client: Any) -> list[int]:
    """Sign in, refresh, fail, sign out."""
    signed_in = client.post("/auth/login/", {"username": "ada", "password": "battery staple"})
    tokens = signed_in.json()
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {tokens['access']}"}
    change = {"new_password1": "staple battery", "new_password2": "staple battery"}
    answers = [
        signed_in,
        client.post("/auth/login/", {"username": "ada", "password": "guess"}),
        client.post("/auth/token/refresh/", {"refresh": tokens["refresh"]}),
        client.post("/auth/password/change/", change, **bearer),
        client.post("/auth/logout/", {"refresh": tokens["refresh"]}, **bearer),
        client.post("/auth/token/refresh/", {"refresh": tokens["refresh"]}),
    ]
    return [answer.status_code for answer in answers]
