"""Envelope to row, purely: every value finds its column, and one that does not fit costs no record."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from django.core.exceptions import ValidationError

from otel_audit import fields
from otel_audit.floods import Flood
from otel_audit.ids import record_id
from otel_audit.models import (
    AuditEvent,
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit_exporters.mapper import MappingError, rows

# Fixed, as they are in the names of tests, which several workers have to agree on.
REQUEST, PROCESS, STEP = (f"01a20d9f-832f-783f-9b7c-aa7c7111c3a{digit}" for digit in "abc")
START = 1_790_000_000_123_456_789


def envelope(kind: str, **facts: Any) -> dict[str, Any]:
    """Return a complete envelope, as JSON gives it back."""
    more = facts.pop("more", {})
    known: dict[str, Any] = {
        "stream": "9f2c61d07be35a18",
        "seq": 17,
        "observed": "2026-11-24T10:00:00.123456+00:00",
        "hash": "a" * 64,
        "v": 1,
        "type": "event" if kind in ("login", "registration") else "span",
        "kind": kind,
        "id": record_id(START),
        "service": "shop",
        "ids": {"request": REQUEST, "process": PROCESS, "step": STEP},
        "span": {
            "name": "GET item/<int:pk>/",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": "b7ad6b7169203331",
            "parent_span_id": "00f067aa0ba902b7",
            "start": str(START),
            "end": str(START + 1_500_000),
            "status": "UNSET",
        },
        "facts": {"at": str(START), "actor": ["7", "ada", "user"], **facts},
    }
    return dict(json.loads(json.dumps({**known, **more})))


def row(kind: str, **facts: Any) -> Any:
    (found,) = rows(envelope(kind, **facts))
    return found


KINDS: dict[str, tuple[type[AuditEvent], dict[str, Any]]] = {
    "request": (RequestAuditEvent, {"method": "GET", "url": "/tea/", "status": 200}),
    "login": (LoginAuditEvent, {"action": "LOGIN", "outcome": "success"}),
    "process": (ProcessAuditEvent, {}),
    "step": (StepAuditEvent, {}),
    "registration": (RegistrationAuditEvent, {"success": True}),
}

each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_common_columns_are_those_of_the_envelope(kind: str) -> None:
    model, facts = KINDS[kind]

    found = row(kind, **facts, extra={"a": 1})

    assert type(found) is model
    assert isinstance(found.id, UUID)
    assert found.datetime == datetime(2026, 9, 21, 14, 13, 20, 123456, tzinfo=UTC)
    assert found.observed_at == datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)
    assert (found.trace_id, found.span_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert found.parent_span_id == "00f067aa0ba902b7"
    assert (found.service_name, found.actor_name, found.actor_type) == ("shop", "ada", "user")
    assert (found.stream_id, found.stream_seq, found.record_hash) == ("9f2c61d07be35a18", 17, "a" * 64)
    assert (found.schema_version, found.extra_informations, found.changed_fields) == ("1", {"a": 1}, [])


@each_kind
def test_row_passes_the_validation_of_its_model(kind: str) -> None:
    found = row(kind, **KINDS[kind][1], name="a name")

    try:
        found.full_clean(validate_unique=False, exclude=["request", "process", "step"])
    except ValidationError as error:
        pytest.fail(str(error))


@each_kind
def test_same_envelope_gives_the_same_row(kind: str) -> None:
    found = envelope(kind, **KINDS[kind][1])

    first, second = rows(found) + rows(found)

    assert {name: getattr(first, name) for name in first.__dict__ if name not in ("_state", "stored_at")} == {
        name: getattr(second, name) for name in second.__dict__ if name not in ("_state", "stored_at")
    }


@pytest.mark.parametrize(
    ("kind", "column", "expected"),
    [
        ("login", "request_id", REQUEST),
        ("process", "request_id", REQUEST),
        ("step", "process_id", PROCESS),
        ("registration", "step_id", STEP),
    ],
)
def test_links_are_those_of_the_envelope(kind: str, column: str, expected: str) -> None:
    assert str(getattr(row(kind, **KINDS[kind][1]), column)) == expected


@each_kind
def test_links_may_be_missing(kind: str) -> None:
    found = row(kind, **KINDS[kind][1], more={"ids": {"request": None, "process": None, "step": None}})

    assert found is not None


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", "READ"),
        ("HEAD", "READ"),
        ("OPTIONS", "READ"),
        ("POST", "CREATE"),
        ("PUT", "UPDATE"),
        ("PATCH", "UPDATE"),
        ("DELETE", "DELETE"),
        ("BREW", "EXECUTE"),
        ("", "EXECUTE"),
    ],
)
def test_action_of_a_request_comes_from_its_method(method: str, action: str) -> None:
    assert row("request", method=method, status=200).action == action


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "success"), (301, "success"), (399, "success"), (400, "failure"), (500, "failure"), (None, "unknown")],
)
def test_outcome_of_a_request_comes_from_its_status(status: int | None, outcome: str) -> None:
    assert row("request", method="GET", status=status).outcome == outcome


def test_outcome_that_the_guard_knows_counts() -> None:
    assert row("request", method="GET", status=200, outcome="failure").outcome == "failure"


@pytest.mark.parametrize(
    ("action", "outcome", "status"),
    [
        ("LOGIN", "success", "Sign in"),
        ("LOGIN", "failure", "Failed"),
        ("LOGOUT", "success", "Sign out"),
        ("REFRESH", "success", "Refresh"),
        ("REFRESH", "failure", "Failed"),
        ("IMPERSONATE", "success", "Impersonate"),
    ],
)
def test_status_of_a_sign_in_comes_from_what_happened(action: str, outcome: str, status: str) -> None:
    assert row("login", action=action, outcome=outcome).status == status


@pytest.mark.parametrize(
    ("actor", "inside", "expected"),
    [
        (["7", "ada", "user"], True, ("7", "ada", "user")),
        ([None, "anonymous", "user"], True, (None, "anonymous", "user")),
        (None, True, (None, "unknown", "user")),
        (None, False, (None, "unknown", "system")),
        (["import", "import", "system"], False, ("import", "import", "system")),
    ],
)
def test_actor_is_who_acted_and_unknown_where_nobody_knows(
    actor: Any, inside: bool, expected: tuple[str | None, str, str]
) -> None:
    ids = {"request": REQUEST if inside else None, "process": PROCESS, "step": None}

    found = row("process", actor=actor, more={"ids": ids})

    assert (found.created_by, found.actor_name, found.actor_type) == expected


def test_columns_of_a_process_and_a_step_come_from_the_attributes() -> None:
    attributes = {
        "audit.process.description": "one tea",
        "audit.step.description": "by hand",
        "audit.step.order": 3,
        "audit.step.expected_registrations": 2,
        "audit.action": "APPROVE",
        "audit.outcome": "failure",
    }

    process, step = row("process", attributes=attributes), row("step", attributes=attributes, order=9)

    assert (process.name, process.description, process.duration_ms) == ("GET item/<int:pk>/", "one tea", 1.5)
    assert (process.action, process.outcome) == ("APPROVE", "failure")
    assert (step.order, step.total_registrations, step.description) == (3, 2, "by hand")


@pytest.mark.parametrize(
    ("given", "column", "expected"),
    [
        ({"audit.step.order": "3"}, "order", 9),
        ({"audit.step.order": True}, "order", 9),
        ({"audit.step.order": 2**40}, "order", 2**31 - 1),
        ({"audit.step.expected_registrations": "two"}, "total_registrations", 1),
        ({"audit.step.expected_registrations": -5}, "total_registrations", -5),
        ({"audit.step.description": 7}, "description", "7"),
        ({"audit.outcome": "a bit of both"}, "outcome", "unknown"),
        ({"audit.outcome": 1}, "outcome", "unknown"),
    ],
)
def test_attribute_of_the_wrong_kind_costs_no_record(given: dict[str, Any], column: str, expected: Any) -> None:
    assert getattr(row("step", attributes=given, order=9), column) == expected


@pytest.mark.parametrize("status", ["ok", [], {}, 10**30, -1, "200", 1.5, True])
def test_status_of_the_wrong_kind_costs_no_record(status: Any) -> None:
    found = row("request", attributes={"http.status_code": status})

    assert found.status_code is None or abs(found.status_code) <= 2**31


def test_error_of_a_process_is_kept_beside_its_extra_data() -> None:
    error = {"type": "E", "message": "m", "stacktrace": "s"}

    assert row("process", error=error).extra_informations == {"exception": error}
    assert row("process", error=error, extra={"a": 1}).extra_informations == {"a": 1, "exception": error}
    assert row("process", error=error, extra="text").extra_informations == {"value": "text", "exception": error}


def test_clock_that_went_back_makes_no_negative_duration() -> None:
    span = {**envelope("process")["span"], "end": str(START - 10**12)}

    assert row("process", more={"span": span}).duration_ms == 0
    assert row("request", more={"span": span}).response_time == 0


def test_duration_by_the_monotonic_clock_counts() -> None:
    assert row("process", duration_ms=7.25).duration_ms == 7.25
    assert row("request", duration_ms=7.25).response_time == 7.25


# ── what does not fit ───────────────────────────────────────────────────────────────────────────────


def test_long_value_is_cut_and_named_and_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields, "_flood", Flood())
    url = "/" + "ä" * 3009

    with caplog.at_level(logging.WARNING, logger="otel_audit.truncation"):
        found = row("request", method="GET", url=url, status=200)

    assert len(found.url) == 2048
    assert found.changed_fields == ["url", "url:size=6019", f"url:sha256={sha256(url.encode()).hexdigest()}"]
    assert "Truncating value for field 'url' to 2048 characters. Original length: 3010." in caplog.text


@pytest.mark.parametrize(
    ("column", "value", "stored"),
    [
        ("url", "/a\x00b", "/a\\x00b"),
        ("url", "/a\ud800b", "/a\\ud800b"),
        ("user_agent", "\udcff", "\\udcff"),
        ("request_body", "a\x00b", "a\\x00b"),
        ("response_size", 2**63, 2**63 - 1),
        ("status_code", 2**40, 2**31 - 1),
    ],
)
def test_value_that_no_database_takes_is_escaped_or_bounded_and_named(column: str, value: Any, stored: Any) -> None:
    fact = {"status_code": "status"}.get(column, column)

    found = row("request", **{"method": "GET", "url": "/", "status": 200, fact: value})

    assert getattr(found, column) == stored
    assert column in found.changed_fields


@pytest.mark.parametrize("text", ["🫖", "\u202e", "é" * 1000, "\x1b[31m", "a\r\nb"])
def test_other_text_is_stored_as_it_is(text: str) -> None:
    found = row("request", method="GET", url="/", status=200, request_body=text)

    assert found.request_body == text
    assert found.changed_fields == []


def test_extra_data_keeps_what_json_cannot_hold_as_text() -> None:
    extra = {"big": 2**60, "neg": -(2**60), "nul\x00": "a\x00", "deep": [{"x": "\ud800"}], "ok": 2**53, "t": True}

    found = row("process", extra=extra)

    assert found.extra_informations == {
        "big": str(2**60),
        "neg": str(-(2**60)),
        "nul\\x00": "a\\x00",
        "deep": [{"x": "\\ud800"}],
        "ok": 2**53,
        "t": True,
    }
    assert "extra_informations" in found.changed_fields


def test_what_was_changed_before_stays_named() -> None:
    found = row("request", method="GET", url="/", status=200, changed=["request_body:redacted"])
    dropped = row("process", more={"span": {**envelope("process")["span"], "dropped": 3}})

    assert found.changed_fields == ["request_body:redacted"]
    assert dropped.changed_fields == ["span.dropped"]


# ── the stock route ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("attributes", "url", "query"),
    [
        ({"url.path": "/tea", "url.query": "n=1"}, "/tea", "n=1"),
        ({"url.path": "/tea"}, "/tea", ""),
        ({"url.full": "https://shop:8000/tea?n=1#top"}, "/tea", "n=1"),
        ({"http.url": "http://shop/tea?n=1"}, "/tea", "n=1"),
        ({"http.target": "/tea?n=1"}, "/tea", "n=1"),
        ({"http.target": "/tea", "http.url": "http://shop/tea?n=1"}, "/tea", "n=1"),
        ({"http.url": "http://[nonsense/tea?n=1"}, "http://[nonsense/tea", "n=1"),
        ({"http.url": 7}, "7", ""),
        ({}, "", ""),
    ],
)
def test_path_and_query_come_from_either_convention(attributes: dict[str, Any], url: str, query: str) -> None:
    found = row("request", attributes=attributes)

    assert (found.url, found.query_params) == (url, query)


@pytest.mark.parametrize(
    ("attributes", "address"),
    [
        ({"client.address": "192.0.2.7", "network.peer.address": "10.0.0.1"}, "192.0.2.7"),
        ({"network.peer.address": "10.0.0.1"}, "10.0.0.1"),
        ({"net.peer.ip": "10.0.0.1"}, "10.0.0.1"),
        ({"http.client_ip": "192.0.2.7"}, "192.0.2.7"),
        ({}, None),
    ],
)
def test_address_comes_from_either_convention(attributes: dict[str, Any], address: str | None) -> None:
    assert row("request", attributes=attributes).ip_addresses == address


# ── what is no row ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("frame", ["open", "close", "gap", "done", None])
def test_frames_of_the_spool_are_no_rows(frame: str | None) -> None:
    assert rows({"v": 1, "type": frame, "id": "x"}) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found.update(kind="tea"),
        lambda found: found.update(kind=None),
        lambda found: found.update(id="not a uuid"),
        lambda found: found.pop("id"),
        lambda found: found.pop("v"),
        lambda found: found["span"].pop("start"),
        lambda found: found["span"].update(start="soon"),
        lambda found: found["span"].update(start="9" * 40),
        lambda found: found.update(span=None),
        lambda found: found.update(facts="text"),
        lambda found: found.update(ids={"request": "nonsense"}),
        lambda found: found["facts"].update(actor="adam"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(spoil: Callable[[dict[str, Any]], None]) -> None:
    found = envelope("process")
    spoil(found)

    with pytest.raises(MappingError, match=r"^(the|an) envelope .*\.$"):
        rows(found)
