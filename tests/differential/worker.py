"""The demo shop in one process, with the package or without: sends itself requests, writes down what came back.

Usage: ``worker.py bare|audited DIRECTORY``, with ``requests.json`` in that directory; leaves ``answers.json`` there.
Where a request says ``{access}``, ``{refresh}``, ``{sessionid}`` or ``{csrftoken}``, it carries what an earlier answer
gave.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VARIANT, DIRECTORY = sys.argv[1], Path(sys.argv[2])
os.environ.update(SHOP_VAR=str(DIRECTORY), SHOP_PASSWORD="grind-8-fine", DJANGO_SETTINGS_MODULE="shop.settings")
sys.path += [str(ROOT / "demo"), str(ROOT)]  # behind the package, wherever that is installed

import shop.settings as settings  # type: ignore[import-not-found]  # noqa: E402  # it is on the path now

settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
settings.ROOT_URLCONF = "shop.plain_urls"
settings.LOGGING_CONFIG = None
settings.ALLOWED_HOSTS = ["testserver"]
if VARIANT == "bare":
    settings.INSTALLED_APPS.remove("otel_audit")
    settings.MIDDLEWARE.remove("otel_audit.middleware.AuditMiddleware")
    settings.DATABASE_ROUTERS = []
    del settings.OTEL_AUDIT

import django  # noqa: E402

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from tests.requests.doors import ASGIDoor, Reply, WSGIDoor  # noqa: E402

#: What is random in an answer, or tells the time: each is as long as the other side's.
RANDOM = (
    (re.compile(rb"eyJ[\w-]+\.[\w-]+\.[\w-]+"), b"<token>"),
    (re.compile(rb'name="csrfmiddlewaretoken" value="\w{64}"'), b"<csrf>"),
    (re.compile(rb"csrftoken=\w{32}; expires=[^;]+"), b"<csrf cookie>"),
    (re.compile(rb"sessionid=\w{32}; expires=[^;]+"), b"<session cookie>"),
    (re.compile(rb"\A\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\Z"), b"<time>"),
)
GIVEN = re.compile(r"(sessionid|csrftoken)=(\w+);")
DOORS = (WSGIDoor(), ASGIDoor())


def main() -> None:
    """Prepare the shop, send every request, write the answers."""
    for alias in connections:
        call_command("migrate", database=alias, verbosity=0)
    call_command("seed", stdout=sys.stderr)
    # The admin names the models that somebody may see, ours among them, on every page.
    User.objects.get(username="auditor").user_permissions.clear()
    known = dict.fromkeys(("access", "refresh", "sessionid", "csrftoken"), "")
    requests = json.loads((DIRECTORY / "requests.json").read_text(encoding="utf-8"))
    answers = [answer(number, request, known) for number, request in enumerate(requests)]
    found = {"answers": answers, "rows": rows() if VARIANT == "audited" else []}
    (DIRECTORY / "answers.json").write_text(json.dumps(found), encoding="utf-8")


def answer(number: int, request: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """Send one request, by WSGI and ASGI in turn; return what came back and how many queries it took."""
    headers = {name: filled(value, known) for name, value in request["headers"].items()}
    body = filled(request["body"], known).encode("latin-1")
    with ExitStack() as stack:
        captured = [stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in connections]
        reply = DOORS[number % 2].request(request["method"], request["path"], body=body, headers=headers)
    remember(reply, known)
    return {
        "status": reply.status,
        "headers": [[name, masked(value.encode("latin-1"))] for name, value in reply.headers],
        "body": masked(reply.body),
        "error": repr(reply.error),
        "queries": sum(map(len, captured)),
    }


def filled(text: str, known: dict[str, str]) -> str:
    """Put in what earlier answers gave."""
    for name, value in known.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def remember(reply: Reply, known: dict[str, str]) -> None:
    """Keep the cookies and tokens of an answer."""
    for name, value in reply.headers:
        if name.lower() == "set-cookie" and (given := GIVEN.match(value)):
            known[given[1]] = given[2]
    if reply.status == 200 and reply.body.startswith((b'{"refresh"', b'{"access"')):
        known.update(json.loads(reply.body))


def masked(raw: bytes) -> str:
    """Return bytes as text, with a word in the place of what is random."""
    for pattern, word in RANDOM:
        raw = pattern.sub(word, raw)
    return raw.decode("latin-1")


def rows() -> list[str]:
    """Return the numbers that the recorded requests carried in their ``User-Agent``."""
    import otel_audit
    from otel_audit.models import RequestAuditEvent

    left = otel_audit.flush(60)
    assert left == 0, left
    return list(RequestAuditEvent.objects.order_by("id").values_list("user_agent", flat=True))


main()
