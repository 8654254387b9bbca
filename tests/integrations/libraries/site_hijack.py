"""django-hijack: an administrator acts as a user, and comes back."""

from __future__ import annotations

from typing import Any

APPS = ["hijack"]
MIDDLEWARE = ["hijack.middleware.HijackUserMiddleware"]
SETTINGS: dict[str, Any] = {}
URLS: list[tuple[str, str]] = [("hijack/", "hijack.urls")]


def visit(client: Any) -> list[int]:
    """Sign in, become somebody else, look around, come back."""
    client.login(username="root", password="correct horse")
    answers = [
        client.post("/hijack/acquire/", {"user_pk": "2"}),
        client.get("/hello/"),
        client.post("/hijack/release/"),
        client.get("/hello/"),
    ]
    return [answer.status_code for answer in answers]
