"""The response is the same as without us: status, headers and their order, cookies, body, errors."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from otel_audit.conf import DEFAULTS
from otel_audit.testing import AuditRecords

from .conftest import URLS
from .doors import Door
from .views import ENDS

pytestmark = [pytest.mark.urls(URLS), pytest.mark.django_db]

JSON = {"Content-Type": "application/json"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=B"}
PART = b'--B\r\nContent-Disposition: form-data; name="tea"\r\n\r\n'

REQUESTS: dict[str, tuple[str, str, bytes, dict[str, str]]] = {
    "plain": ("GET", "/hello/", b"", {}),
    "head": ("HEAD", "/hello/", b"", {}),
    "options": ("OPTIONS", "/api/who/", b"", {}),
    "redirect": ("GET", "/hello", b"", {}),
    "bad host": ("GET", "/hello/", b"", {"Host": "evil.example"}),
    "csrf": ("POST", "/protected/", b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}),
    "404": ("GET", "/nowhere/", b"", {}),
    "view's 404": ("GET", "/missing/", b"", {}),
    "403": ("GET", "/denied/", b"", {}),
    "503": ("GET", "/broken/", b"", {}),
    "crash": ("GET", "/crash/", b"", {}),
    "async crash": ("GET", "/acrash/", b"", {}),
    "async": ("GET", "/ahello/", b"", {}),
    "json": ("POST", "/echo/", b'{"a": [1, 2.50, "\\u0000"]}', JSON),
    "bad json for drf": ("POST", "/api/echo/", b'{"a": ', JSON),
    "no json for drf": ("POST", "/api/echo/", b"\xff\xfe", JSON),
    "drf": ("POST", "/api/echo/", b'{"a": 1}', JSON),
    "drf error": ("POST", "/api/invalid/", b"{}", JSON),
    "drf 405": ("POST", "/api/who/", b"{}", JSON),
    "form": ("POST", "/form/", b"a=1&a=2&b=%ff", {"Content-Type": "application/x-www-form-urlencoded"}),
    "multipart": ("POST", "/form/", PART + b"oolong\r\n--B--\r\n", MULTIPART),
    "torn multipart": ("POST", "/form/", PART + b"oolong", MULTIPART),
    "multipart without boundary": ("POST", "/form/", PART, {"Content-Type": "multipart/form-data"}),
    "unread body": ("POST", "/deaf/", b"x" * 10_000, {}),
    "stream": ("GET", "/stream/", b"", {}),
    "file": ("GET", "/file/", b"", {}),
    "long query": ("GET", "/hello/?" + "q" * 60_000, b"", {}),
    "percent": ("GET", "/hello/%00%ff%20/", b"", {}),
    "odd method": ("M" * 200, "/hello/", b"", {}),
    "long header": ("GET", "/hello/", b"", {"X-Forwarded-For": "1," * 2500, "User-Agent": "u" * 60_000}),
    "bad length": ("POST", "/echo/", b"abc", {"Content-Length": "many"}),
    "negative length": ("POST", "/echo/", b"abc", {"Content-Length": "-3"}),
    "short length": ("POST", "/echo/", b"abcdef", {"Content-Length": "3"}),
    "bad cookies": ("GET", "/hello/", b"", {"Cookie": "sessionid=; ;=; \x7f=\x80; a"}),
}


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume (a)?synchronous iterators:Warning")
@pytest.mark.filterwarnings("ignore:Malformed:RuntimeWarning")
@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("asked", [False, True], ids=["anonymous", "session"])
def test_response_is_the_same_as_without_us(
    door: Door, records: AuditRecords, settings: Any, session: dict[str, str], name: str, asked: bool
) -> None:
    method, path, body, headers = REQUESTS[name]
    headers = {**session, **headers} if asked else headers
    ours = settings.MIDDLEWARE

    audited = door.request(method, path, body=body, headers=headers)
    settings.MIDDLEWARE = [entry for entry in ours if not entry.startswith("otel_audit.")]
    bare = door.request(method, path, body=body, headers=headers)

    assert (audited.status, audited.headers, audited.body) == (bare.status, bare.headers, bare.body)
    assert repr(audited.error) == repr(bare.error)
    assert len(records.requests) == (0 if bare.status == 0 else 1)


@pytest.mark.parametrize("path", ["/whoami/", "/awhoami/", "/api/who/"])
def test_headers_of_a_view_that_asks_for_the_user_are_the_same(
    door: Door, settings: Any, user: User, session: dict[str, str], path: str
) -> None:
    ours = settings.MIDDLEWARE

    audited = door.get(path, headers=session)
    settings.MIDDLEWARE = [entry for entry in ours if not entry.startswith("otel_audit.")]
    bare = door.get(path, headers=session)

    assert audited.headers == bare.headers
    assert "Cookie" in (audited.header("Vary") or "")
    assert audited.body == bare.body


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/form/", PART.replace(b'"tea"', b'"tea"; filename="a"') + b"x" * 50_000 + b"\r\n--B--\r\n", MULTIPART, 200),
        ("/form/", PART + b"x" * 50_000 + b"\r\n--B--\r\n", MULTIPART, 400),
        ("/echo/", b"x" * 50_000, {}, 400),
        ("/deaf/", b"x" * 50_000, {}, 200),
    ],
)
def test_large_upload_behaves_as_without_us(
    door: Door,
    records: AuditRecords,
    settings: Any,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    ours = settings.MIDDLEWARE

    audited = door.post(path, body, headers=headers)
    settings.MIDDLEWARE = [entry for entry in ours if not entry.startswith("otel_audit.")]
    bare = door.post(path, body, headers=headers)

    (row,) = records.requests
    assert (audited.status, audited.headers, audited.body) == (bare.status, bare.headers, bare.body)
    assert (audited.status, row.status_code) == (status, status)
    assert row.request_size == len(body)


@pytest.mark.parametrize(
    "path",
    [
        "/hostile_extra/",
        "/hostile_exception/",
        "/hostile_name/",
        "/no_response/",
        "/recursive_extra/",
        *(f"/ending/{where}/{how}/" for where in ("error", "user", "extra") for how in ENDS),
    ],
)
def test_view_with_hostile_objects_has_one_record_and_its_own_response(
    door: Door, records: AuditRecords, settings: Any, path: str
) -> None:
    ours = settings.MIDDLEWARE

    audited = door.get(path)
    settings.MIDDLEWARE = [entry for entry in ours if not entry.startswith("otel_audit.")]
    bare = door.get(path)

    (row,) = records.requests
    assert (audited.status, audited.headers, audited.body) == (bare.status, bare.headers, bare.body)
    assert (row.url, row.status_code) == (path, bare.status)


def test_wrong_settings_cost_neither_response_nor_record(
    door: Door, records: AuditRecords, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    wrong: list[Any] = [object(), None, -1, 1.5, "no", b"no", [None], {"no": "no"}, [object()]]
    written = [*wrong, *({key: value} for key in DEFAULTS for value in wrong)]

    for number, value in enumerate(written, 1):
        settings.OTEL_AUDIT = value
        reply = door.post("/echo/", b'{"a": 1}', headers={**JSON, "X-Forwarded-For": "192.0.2.1"})

        assert (reply.status, reply.body) == (200, b'{"a": 1}'), value
        assert len(records.requests) == number, value
    caplog.clear()
