"""What the policy's rules do to a request's record, through both doors."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings

from otel_audit import edges, status
from otel_audit.policy import Policy
from otel_audit.testing import AuditRecords, capture

from .conftest import URLS
from .doors import Door

pytestmark = [pytest.mark.urls(URLS), pytest.mark.usefixtures("fresh_pipeline", "fresh_provider")]

JSON = {"Content-Type": "application/json"}
BODY = b'{"name": "tea"}'


def rules(*written: dict[str, Any]) -> override_settings:
    """Settings with a policy."""
    return override_settings(OTEL_AUDIT={"DATABASE": "audit", "POLICY": list(written)})


@pytest.mark.parametrize(
    ("level", "body"), [("metadata", None), ("request", BODY.decode()), ("request_response", BODY.decode())]
)
def test_a_rule_by_route_decides_what_is_kept_of_a_body(
    door: Door, records: AuditRecords, level: str, body: str | None
) -> None:
    with rules({"route": "^echo/", "level": level}, {"level": "none"}):
        door.post("/echo/", BODY, headers=JSON)
        door.get("/item/7/")

    (row,) = records.requests
    assert (row.request_body, row.response_body is not None) == (body, level == "request_response")


def test_a_rule_by_status_is_decided_with_the_body_at_hand(door: Door, records: AuditRecords) -> None:
    with rules({"status": ["4xx"], "level": "none"}, {"level": "request"}):
        door.get("/missing/")
        door.post("/echo/", BODY, headers=JSON)

    assert [(row.status_code, row.request_body) for row in records.requests] == [(200, BODY.decode())]


def test_a_rule_by_status_may_want_the_body_of_what_is_left_out_else(door: Door, records: AuditRecords) -> None:
    with rules({"status": ["2xx"], "path": "^/echo/", "level": "request"}, {"level": "none"}):
        door.post("/echo/", BODY, headers=JSON)
        door.post("/form/", b"a=b", headers={"Content-Type": "application/x-www-form-urlencoded"})

    assert [row.request_body for row in records.requests] == [BODY.decode()]


def test_a_body_is_cut_at_the_limit_of_its_rule(door: Door, records: AuditRecords) -> None:
    with rules({"level": "request_response", "max_body_bytes": 9}):
        door.post("/echo/", BODY, headers=JSON)

    (row,) = records.requests
    assert (row.request_body, row.response_body) == (BODY[:9].decode(), BODY[:9].decode())
    assert (row.request_size, row.response_size) == (len(BODY), len(BODY))
    assert {"request_body:cut", "response_body:cut"} <= set(row.changed_fields)


@pytest.mark.django_db
def test_a_rule_by_user_speaks_of_who_acted(door: Door, records: AuditRecords, session: dict[str, str]) -> None:
    with rules({"users": ["ada"], "level": "none"}):
        door.get("/whoami/", headers=session)
        door.get("/hello/")

    assert [row.actor_name for row in records.requests] == ["anonymous"]


@pytest.mark.django_db
def test_nobody_is_left_out_by_a_rule_for_a_user_of_that_name(door: Door, records: AuditRecords) -> None:
    with rules({"users": ["anonymous"], "level": "none"}):
        door.get("/hello/")

    assert len(records.requests) == 1


@pytest.mark.parametrize("path", ["/whoami/", "/awhoami/", "/hello/"])
@pytest.mark.django_db
def test_a_rule_by_group_costs_one_query(
    door: Door, records: AuditRecords, user: User, session: dict[str, str], path: str
) -> None:
    user.groups.add(Group.objects.create(name="robots"))
    with rules():
        with CaptureQueriesContext(connection) as before:
            door.get(path, headers=session)
        records.clear()

    with rules({"groups": ["robots"], "level": "none"}), CaptureQueriesContext(connection) as queries:
        door.get(path, headers=session)

    assert records.requests == []
    assert len(queries) == len(before) + 1


@pytest.mark.django_db
def test_groups_that_cannot_be_asked_for_leave_metadata(
    door: Door, records: AuditRecords, session: dict[str, str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(_: Any) -> None:
        raise RuntimeError("the database is away")

    monkeypatch.setattr(edges, "reraise", False)
    before = edges.errors["guard.groups"]
    monkeypatch.setattr("otel_audit.request_policy._groups", fail)
    with rules({"groups": ["robots"], "level": "none"}):
        door.post("/echo/", BODY, headers={**session, **JSON})

    (row,) = records.requests
    assert (row.request_body, row.response_body, row.status_code) == (None, None, 200)
    assert edges.errors["guard.groups"] == before + 1
    caplog.clear()


def test_a_policy_that_fails_leaves_metadata(
    door: Door, records: AuditRecords, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def fail(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(edges, "reraise", False)
    before = edges.errors["guard.policy"]
    monkeypatch.setattr(Policy, "settle", fail)
    with rules({"status": ["2xx"], "level": "none"}):
        door.post("/echo/", BODY, headers=JSON)

    (row,) = records.requests
    assert (row.request_body, row.response_body, row.status_code) == (None, None, 200)
    assert edges.errors["guard.policy"] == before + 1
    caplog.clear()


@pytest.mark.parametrize(
    ("path", "exception"),
    [
        ("/denied/", "denials"),
        ("/crash/", "errors"),
        ("/login_event/", "sign_ins"),
    ],
)
def test_sign_ins_denials_and_errors_are_left_out_only_by_name(
    door: Door, records: AuditRecords, path: str, exception: str
) -> None:
    others = [name for name in ("denials", "errors", "sign_ins") if name != exception]

    with rules({"level": "none", "also_excludes": others}):
        door.get(path)
    kept = len(records.requests)
    with rules({"level": "none", "also_excludes": [exception]}):
        door.get(path)

    assert (kept, len(records.requests)) == (1, 1)


def test_what_a_rule_leaves_out_is_counted_by_rule(door: Door) -> None:
    written = [
        {"path": "^/hello/", "level": "none"},
        {"status": [404], "level": "none", "name": "not there"},
    ]
    with rules(*written), capture() as records:
        for path in ("/hello/", "/hello/", "/missing/", "/static/logo.png", "/item/1/", "/denied/"):
            door.get(path)
        found = status()

    assert sorted(row.url for row in records.requests) == ["/denied/", "/item/1/"]
    assert found["excluded"] == 4
    assert found["excluded_by"] == {"rule 1": 2, "not there": 1, "STATIC_URL": 1}
