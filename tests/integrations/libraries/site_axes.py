"""django-axes: two wrong passwords lock an account out."""

from __future__ import annotations

from typing import Any

APPS = ["axes"]
MIDDLEWARE = ["axes.middleware.AxesMiddleware"]
SETTINGS: dict[str, Any] = {
    "AUTHENTICATION_BACKENDS": [
        "axes.backends.AxesStandaloneBackend",
        "django.contrib.auth.backends.ModelBackend",
    ],
    "AXES_FAILURE_LIMIT": 2,
}
URLS: list[tuple[str, str]] = []


def visit(client: Any) -> list[int]:
    """Guess twice, and then know the password."""
    answers = [
        client.post("/admin/login/", {"username": "root", "password": password})
        for password in ("guess", "guess again", "correct horse")
    ]
    return [answer.status_code for answer in answers]
