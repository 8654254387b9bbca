"""One request, one record: what it says, through WSGI and ASGI, whatever the request's span comes from."""

from __future__ import annotations

import re
import time
from itertools import count
from typing import Any

import pytest
from django.test import override_settings

from otel_audit.middleware import GUARD_PATH
from otel_audit.models import RequestAuditEvent
from otel_audit.testing import AuditRecords

from .conftest import URLS
from .doors import CLIENT, Door

pytestmark = [pytest.mark.urls(URLS), pytest.mark.usefixtures("span_source")]

FRONT = "tests.requests.middleware."


def only(records: AuditRecords) -> RequestAuditEvent:
    """Return the one request record."""
    found = records.requests
    assert len(found) == 1, found
    return found[0]


def test_request_is_recorded_with_what_identifies_it(door: Door, records: AuditRecords) -> None:
    reply = door.get("/item/7/?colour=green&n=1", headers={"User-Agent": "kettle/1.0"})

    row = only(records)
    assert reply.body == b"item 7"
    assert (row.method, row.url, row.route) == ("GET", "/item/7/", "item/<int:pk>/")
    assert (row.query_params, row.request_type, row.user_agent) == ("colour=green&n=1", "http", "kettle/1.0")
    assert (row.ip_addresses, row.status_code, row.action, row.outcome) == (CLIENT, 200, "READ", "success")
    assert (row.user, row.actor_name, row.actor_type) == (None, "anonymous", "user")
    assert (row.response_size, row.request_body, row.response_body) == (6, None, None)
    assert (row.error_type, row.error_message, row.error_stacktrace) == (None, None, None)


def test_ids_are_those_of_a_trace_and_a_time_ordered_record(door: Door, records: AuditRecords) -> None:
    door.get("/hello/")

    row = only(records)
    assert re.fullmatch("[0-9a-f]{32}", row.trace_id)
    assert re.fullmatch("[0-9a-f]{16}", row.span_id)
    assert row.id.version == 7
    assert row.schema_version == "1"
    assert re.fullmatch("[0-9a-f]{64}", row.record_hash)


def test_duration_is_in_milliseconds_by_the_monotonic_clock(
    door: Door, records: AuditRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, hour, asked = time.time_ns, 3_600_000_000_000, count()
    monkeypatch.setattr(time, "time_ns", lambda: now() - next(asked) * hour)  # the wall clock is set back all the time
    began = time.monotonic()

    door.get("/slow/")

    took_ms = (time.monotonic() - began) * 1000
    response_time = only(records).response_time
    assert response_time is not None
    assert 20 <= response_time <= took_ms


def test_scheme_is_what_the_client_used(door: Door, records: AuditRecords) -> None:
    door.request("GET", "/hello/", scheme="https")

    assert only(records).request_type == "https"


def test_forwarded_address_of_an_unknown_peer_is_not_believed(door: Door, records: AuditRecords) -> None:
    door.get("/hello/", headers={"X-Forwarded-For": "203.0.113.9"})

    assert only(records).ip_addresses == CLIENT


def test_forwarded_header_is_kept_as_untrusted_beside_what_the_view_says(door: Door, records: AuditRecords) -> None:
    door.get("/meta_extra/", headers={"X-Forwarded-For": "203.0.113.9, token=hunter2hunter2"})

    assert only(records).extra_informations == {
        "audit.untrusted.x-forwarded-for": "203.0.113.9, token=[redacted]",
        "order": 7,
        "tea": {"kind": "oolong"},
    }


def test_bodies_and_sizes_are_recorded(door: Door, records: AuditRecords) -> None:
    body = b'{"name": "tea", "password": "hunter2"}'

    reply = door.post("/echo/", body, headers={"Content-Type": "application/json"})

    row = only(records)
    assert reply.body == body
    assert '"tea"' in (row.request_body or "")
    assert '"tea"' in (row.response_body or "")
    assert "hunter2" not in f"{row.request_body}{row.response_body}"
    assert (row.request_size, row.response_size) == (len(body), len(body))
    assert row.action == "CREATE"


def test_body_that_the_view_never_read_is_not_read_by_us(door: Door, records: AuditRecords) -> None:
    door.post("/deaf/", b'{"name": "tea"}', headers={"Content-Type": "application/json"})

    row = only(records)
    assert row.request_body is None
    assert row.request_size == 15


def test_drf_request_body_is_recorded(door: Door, records: AuditRecords) -> None:
    reply = door.post("/api/annotated/", b'{"name": "tea"}', headers={"Content-Type": "application/json"})

    row = only(records)
    assert reply.status == 201
    assert '"tea"' in (row.request_body or "")
    assert row.extra_informations == {"tea": "oolong", "order": 7}


MULTIPART = (
    b'--B\r\nContent-Disposition: form-data; name="tea"\r\n\r\noolong\r\n'
    b'--B\r\nContent-Disposition: form-data; name="scan"; filename="a.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + b"\x00\x01" * 4096 + b"\r\n--B--\r\n"
)


def test_multipart_form_arrives_whole(door: Door, records: AuditRecords) -> None:
    reply = door.post("/form/", MULTIPART, headers={"Content-Type": "multipart/form-data; boundary=B"})

    row = only(records)
    assert reply.body == b'{"fields": {"tea": "oolong"}, "files": {"scan": 8192}}'
    assert row.request_size == len(MULTIPART)
    assert "oolong" in (row.request_body or "")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/hello", {}, 301),
        ("GET", "/hello/", {"Host": "evil.example"}, 400),
        ("POST", "/protected/", {}, 403),
        ("GET", "/nowhere/", {}, 404),
        ("GET", "/missing/", {}, 404),
        ("GET", "/denied/", {}, 403),
        ("GET", "/broken/", {}, 503),
        ("GET", "/crash/", {}, 500),
        ("GET", "/acrash/", {}, 500),
        ("POST", "/api/invalid/", {}, 400),
    ],
)
def test_status_is_what_the_client_got(
    door: Door, records: AuditRecords, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    reply = door.request(method, path, headers=headers)

    row = only(records)
    assert (reply.status, row.status_code) == (status, status)
    assert row.outcome == ("failure" if status >= 400 else "success")


@override_settings(SECURE_SSL_REDIRECT=True)
def test_ssl_redirect_is_recorded(door: Door, records: AuditRecords) -> None:
    reply = door.get("/hello/")

    assert (reply.status, only(records).status_code) == (301, 301)


@pytest.mark.parametrize("path", ["/crash/", "/acrash/", "/api/crash/"])
def test_exception_of_a_view_is_recorded(door: Door, records: AuditRecords, path: str) -> None:
    door.get(path)

    row = only(records)
    assert row.error_type == "tests.requests.views.ShopError"
    assert row.error_message == "the till is empty"
    assert "in get" in (row.error_stacktrace or "") or "crash" in (row.error_stacktrace or "")
    assert row.error_stacktrace.startswith("Traceback")


def test_api_exception_of_drf_is_recorded(door: Door, records: AuditRecords) -> None:
    door.post("/api/invalid/", b"{}", headers={"Content-Type": "application/json"})

    row = only(records)
    assert row.error_type == "rest_framework.exceptions.ValidationError"
    assert row.error_message == "price: too low"
    assert "in post" in (row.error_stacktrace or "")
    assert row.extra_informations == {"order": 7}


@pytest.mark.parametrize("name", ["crash_on_request", "crash_on_response"])
@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
def test_exception_of_another_middleware_is_recorded(
    door: Door, records: AuditRecords, settings: Any, name: str, first: bool
) -> None:
    other = f"{FRONT}{name}"
    theirs = [path for path in settings.MIDDLEWARE if path != GUARD_PATH]
    settings.MIDDLEWARE = [other, *theirs] if first else [*theirs, other]

    reply = door.get("/hello/")

    row = only(records)
    assert (reply.status, row.status_code, row.outcome) == (500, 500, "failure")
    assert row.error_type == "tests.requests.middleware.MiddlewareError"
    assert "in middleware" in (row.error_stacktrace or "")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/meta_extra/", {"order": 7, "tea": {"kind": "oolong"}}),
        ("/meta_extra_crash/", {"order": 7}),
        ("/meta_extra_odd/", {"odd": "<a value>", "path": "/tea", "n": 1}),
        ("/meta_extra_text/", "tea"),
        ("/meta_extra_empty/", None),
        ("/meta_extra_none/", None),
        ("/hostile_meta_extra/", "[unreadable Hostile: RuntimeError]"),
        ("/meta_replaced/", {"order": 8}),
        ("/annotated/", {"order": 8, "odd": "<a value>"}),
        ("/annotated_crash/", {"order": 7}),
    ],
)
def test_extra_data_of_the_view_is_recorded(door: Door, records: AuditRecords, path: str, expected: Any) -> None:
    door.get(path)

    assert only(records).extra_informations == expected


@pytest.mark.parametrize(
    "path", ["/spoil_meta/", "/clear_meta/", "/spoil_method/", "/spoil_path/", "/spoil_user/", "/delete_user/"]
)
def test_view_that_spoils_the_request_has_one_right_record(
    door: Door, records: AuditRecords, path: str, span_source: str
) -> None:
    if span_source.startswith("otel") and path in ("/spoil_meta/", "/clear_meta/"):
        pytest.skip("the instrumentation itself cannot do without what it keeps in request.META")

    reply = door.get(f"{path}?a=1", headers={"User-Agent": "kettle/1.0"})

    row = only(records)
    assert (reply.status, reply.body) == (200, b"spoilt")
    assert (row.method, row.url, row.query_params) == ("GET", path, "a=1")
    assert (row.user_agent, row.ip_addresses, row.status_code) == ("kettle/1.0", CLIENT, 200)
    assert row.actor_name == "anonymous"


@pytest.mark.parametrize(
    ("path", "recorded"),
    [
        ("/static/logo.png", False),
        ("/static/missing.png", False),
        ("/static/nowhere.png", False),
        ("/static/crash/", True),
        ("/static/denied/", True),
        ("/static/broken/", True),
        ("/hello/", True),
    ],
)
def test_excluded_path_is_recorded_only_when_something_happened(
    door: Door, records: AuditRecords, path: str, recorded: bool
) -> None:
    door.get(path)

    assert len(records.requests) == recorded


@override_settings(OTEL_AUDIT={"DATABASE": "audit", "ENABLED": False})
def test_nothing_is_recorded_when_switched_off(door: Door, records: AuditRecords) -> None:
    replies = [door.get(path).status for path in ("/hello/", "/crash/", "/annotated/", "/meta_extra/", "/stream/")]

    assert replies == [200, 500, 200, 200, 200]
    assert list(records) == []
