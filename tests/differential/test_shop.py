"""The demo shop answers the same with the package as without it, whatever is asked of it.

``OTEL_AUDIT_DIFFERENTIAL_REQUESTS`` says how many requests are sent, ``OTEL_AUDIT_DIFFERENTIAL_SEED`` which ones.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import otel_audit
import otel_audit_exporters

REQUESTS = int(os.environ.get("OTEL_AUDIT_DIFFERENTIAL_REQUESTS", "200"))
SEED = os.environ.get("OTEL_AUDIT_DIFFERENTIAL_SEED", "coffee")
KEY = "a-key-for-two-shops-that-is-long-enough"
WORKER = Path(__file__).parent / "worker.py"

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
PATHS = (
    "/api/products/", "/api/products/1/", "/api/products/999/", "/api/products/x/", "/api/products",
    "/api/products/%00/", "/api/products/" + "1" * 300 + "/", "//api//products/", "/api/%ff%fe/", "/%E2%80%AE/",
    "/api/stock/kettle/", "/api/stock/nothing/", "/api/price-list/", "/api/crash/", "/api/health/", "/api/nowhere/",
    "/api/token/", "/api/token/refresh/", "/api/token/blacklist/", "/api/sign-out/",
    "/", "/admin/", "/admin/login/", "/admin/logout/", "/admin/password_change/", "/admin/jsi18n/",
    "/static/admin/css/base.css", "/static/nothing.css", "/static/../admin/",
)  # fmt: skip
QUERIES = ("", "", "", "?", "?page=2", "?page=x", "?ordering=price&token=s3cret", "?a=%00&a=%ff", "?" + "q" * 3000)
METHODS = ("GET", "GET", "GET", "POST", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "BREW", "get")
BODIES = (
    ("", ""),
    (JSON, '{{"username": "anna", "password": "grind-8-fine"}}'),
    (JSON, '{{"username": "anna", "password": "guess"}}'),
    (JSON, '{{"refresh": "{refresh}"}}'),
    (JSON, '{{"sku": "cup-{number}", "name": "Cup \\u0000", "price": "3.50", "stock": 4}}'),
    (JSON, '{{"sku": "kettle", "name": "", "price": NaN}}'),
    (JSON, '{{"a": '), (JSON, "\xff\xfe"), (JSON, "[" * 3000), (JSON + "; charset=utf-16", "{}"),
    (FORM, "username=auditor&password=grind-8-fine&csrfmiddlewaretoken={csrftoken}&next=/api/products/"),
    (FORM, "username=auditor&password=guess&csrfmiddlewaretoken={csrftoken}"),
    (FORM, "old_password=guess&new_password1=a&new_password2=b&csrfmiddlewaretoken={csrftoken}"),
    (FORM, "sku=mug-{number}&name=Mug&price=1&a=%ff&b=%00"),
    ("multipart/form-data; boundary=B", '--B\r\nContent-Disposition: form-data; name="sku"\r\n\r\nmug\r\n--B--\r\n'),
    ("multipart/form-data", "--B\r\n"), ("text/plain", "x" * 5000), ("", "\x00\xff"),
)  # fmt: skip
HEADERS = (
    ("Authorization", "Bearer {access}"), ("Authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.x"),
    ("Authorization", "Basic Og=="), ("Authorization", "Token x"), ("X-CSRFToken", "{csrftoken}"),
    ("Cookie", "csrftoken={csrftoken}"), ("Cookie", "csrftoken={csrftoken}; sessionid={sessionid}"),
    ("Cookie", "csrftoken={csrftoken}; sessionid={sessionid}"), ("Cookie", "sessionid=" + "x" * 32),
    ("Cookie", ";=; a"),
    ("X-Forwarded-For", "203.0.113.9, 10.0.0.1"), ("X-Forwarded-For", "1," * 2500), ("Forwarded", 'for="[::1]:80"'),
    ("Otel-Audit", "x:y:z"), ("Otel-Audit-Secret", "guess"), ("baggage", "audit.actor.id=admin"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"), ("traceparent", "rubbish"),
    ("Accept", "text/html"), ("Accept", "application/xml"), ("Accept-Language", "de"), ("Accept-Encoding", "gzip"),
    ("Host", "evil.example"), ("Origin", "https://evil.example"), ("Referer", "http://testserver/reset/x/token/"),
    ("If-None-Match", '"x"'), ("Range", "bytes=0-1"), ("X-HTTP-Method-Override", "DELETE"), ("Content-Length", "3"),
    ("Content-Length", "many"), ("Expect", "100-continue"), ("X-Request-ID", "\xff" * 40),
)  # fmt: skip


def generated(number: int) -> dict[str, Any]:
    """Return the request with this number, which is the same in every run with the same seed."""
    chosen = random.Random(f"{SEED}:{number}")
    kind, body = chosen.choice(BODIES)
    headers = {"Content-Type": kind} if kind else {}
    headers |= dict(chosen.choices(HEADERS, k=chosen.randrange(4)))
    headers["User-Agent"] = f"number {number}"
    return {
        "method": chosen.choice(METHODS),
        "path": chosen.choice(PATHS) + chosen.choice(QUERIES),
        "headers": headers,
        "body": body.replace("{{", "{").replace("}}", "}").replace("{number}", str(number)),
    }


#: What people do, so that tokens and sessions are there for the requests that follow.
SIGN_INS: list[dict[str, Any]] = [
    {"method": "GET", "path": "/admin/login/", "headers": {}, "body": ""},
    {
        "method": "POST",
        "path": "/admin/login/",
        "headers": {"Content-Type": FORM, "Cookie": "csrftoken={csrftoken}"},
        "body": "username=auditor&password=grind-8-fine&csrfmiddlewaretoken={csrftoken}&next=/api/products/",
    },
    {
        "method": "POST",
        "path": "/api/token/",
        "headers": {"Content-Type": JSON},
        "body": '{"username": "anna", "password": "grind-8-fine"}',
    },
]


def sent() -> list[dict[str, Any]]:
    """Return the requests: now and then somebody signs in again, as a sign-out may have come by chance."""
    requests: list[dict[str, Any]] = []
    while len(requests) < REQUESTS:
        number = len(requests)
        for request in SIGN_INS if number % 50 == 0 else [generated(number)]:
            headers = {**request["headers"], "User-Agent": f"number {len(requests)}"}
            requests.append({**request, "headers": headers})
    return requests


@contextmanager
def opened(variant: str, directory: Path, requests: list[dict[str, Any]]) -> Iterator[Callable[[], dict[str, Any]]]:
    """Send ``requests`` to a shop in a process of its own; what is yielded waits for its answers and returns them."""
    (directory / "requests.json").write_text(json.dumps(requests), encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "DJANGO_", "SHOP_"))}
    packages = [str(Path(package.__file__ or "").parents[1]) for package in (otel_audit, otel_audit_exporters)]
    environment = {**kept, "PYTHONPATH": os.pathsep.join(packages), "SHOP_SECRET_KEY": KEY, "HOME": str(directory)}
    with (directory / "log").open("wb") as log:
        command = [sys.executable, str(WORKER), variant, str(directory)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def answers() -> dict[str, Any]:
        assert process.wait(100 + REQUESTS) == 0, (directory / "log").read_text(encoding="utf-8")[-3000:]
        found: dict[str, Any] = json.loads((directory / "answers.json").read_text(encoding="utf-8"))
        return found

    try:
        yield answers
    finally:
        process.kill()
        process.wait()


def has_session(request: dict[str, Any]) -> bool:
    """Whether a request carries a session's cookie: then the package may ask whose it is."""
    return "sessionid" in request["headers"].get("Cookie", "")


def is_excluded(path: str) -> bool:
    """Whether the default policy, or the shop's own, leaves a path out."""
    return (path.startswith("/static/") and ".." not in path) or path.partition("?")[0] == "/api/health/"


# One test, as several would be spread over the processes of the suite, and each would open both shops.
@pytest.mark.timeout(120 + 2 * REQUESTS)
def test_shop_answers_the_same_asks_its_database_no_more_and_leaves_one_row_each(tmp_path_factory: Any) -> None:
    requests = sent()
    with (
        opened("bare", tmp_path_factory.mktemp("bare"), requests) as bare_answers,
        opened("audited", tmp_path_factory.mktemp("audited"), requests) as audited_answers,
    ):
        bare, audited = bare_answers(), audited_answers()

    triples = list(zip(requests, audited["answers"], bare["answers"], strict=True))
    said = ("status", "headers", "body", "error")
    different = [
        (request, {key: (ours[key], theirs[key]) for key in said if ours[key] != theirs[key]})
        for request, ours, theirs in triples
        if any(ours[key] != theirs[key] for key in said)
    ]
    assert different == []
    more_queries = [
        (request, ours["queries"], theirs["queries"])
        for request, ours, theirs in triples
        if ours["queries"] - theirs["queries"] not in (range(3) if has_session(request) else [0])
    ]
    assert more_queries == []
    assert audited["rows"] == [
        request["headers"]["User-Agent"]
        for request, answer, _ in triples
        if not is_excluded(request["path"]) or answer["status"] in (401, 403) or answer["status"] >= 500
    ]
    # The requests reach what they are meant to reach.
    assert {200, 301, 302, 400, 401, 403, 404, 405, 500} <= {answer["status"] for answer in bare["answers"]}
