"""django-loginas: an administrator acts as a user, and comes back by signing out."""

from __future__ import annotations

from typing import Any

APPS = ["loginas"]
MIDDLEWARE: list[str] = []
SETTINGS: dict[str, Any] = {"LOGINAS_REDIRECT_URL": "/hello/"}
URLS: list[tuple[str, str]] = [("admin/", "loginas.urls")]


def visit(client: Any) -> list[int]:
    """Sign in, become somebody else, look around, come back."""
    client.login(username="root", password="correct horse")
    answers = [
        client.post("/admin/login/user/2/"),
        client.get("/hello/"),
        client.get("/admin/logout/"),
        client.get("/hello/"),
    ]
    return [answer.status_code for answer in answers]
