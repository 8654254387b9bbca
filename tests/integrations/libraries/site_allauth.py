"""django-allauth: its own forms, and its own limit of attempts."""

from __future__ import annotations

from typing import Any

APPS = ["allauth", "allauth.account"]
MIDDLEWARE = ["allauth.account.middleware.AccountMiddleware"]
SETTINGS: dict[str, Any] = {
    "AUTHENTICATION_BACKENDS": [
        "django.contrib.auth.backends.ModelBackend",
        "allauth.account.auth_backends.AuthenticationBackend",
    ],
    "ACCOUNT_RATE_LIMITS": {"login_failed": "1/m/key"},
    "ACCOUNT_EMAIL_VERIFICATION": "none",
}
URLS: list[tuple[str, str]] = [("accounts/", "allauth.urls")]


def visit(client: Any) -> list[int]:
    """Sign in, get the password wrong, sign out, guess too often."""
    answers = [
        client.post("/accounts/login/", {"login": "ada", "password": "battery staple"}),
        client.get("/hello/"),
        client.post("/accounts/reauthenticate/", {"password": "guess"}),
        client.post("/accounts/logout/"),
        client.post("/accounts/login/", {"login": "ada", "password": "guess"}),
        client.post("/accounts/login/", {"login": "ada", "password": "guess again"}),
    ]
    return [answer.status_code for answer in answers]
