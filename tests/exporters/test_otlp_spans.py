"""What a collector gets of a record, at each level."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_audit.exceptions import OTelAuditError
from otel_audit_exporters.otlp_spans import as_request, as_span

ID = "0190b0a5-e3f8-7cc9-8a6b-2f4d1c9e7b30"
REQUEST_ID = "0190b0a5-e3f8-7cc9-8a6b-000000000001"
TRACE, SPAN, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331"
#: What DESIGN keeps beside the span, by where it stands in the facts.
BESIDE = {
    "query": "q=brass",
    "address": "203.0.113.77",
    "request_body": '{"sku":"kettle"}',
    "response_body": '{"id":7}',
    "extra": {"tenant": "acme", "lines": [1, 2], "nested": {"a": None}},
    "error": {"type": "shop.SoldOut", "message": "no kettle left", "stacktrace": "Traceback …"},
}


def envelope(kind: str = "request", **changes: Any) -> dict[str, Any]:
    """Return the envelope of a record, as the spool gives it back."""
    is_event = kind in ("login", "registration")
    span = {"trace_id": TRACE, "span_id": SPAN}
    if not is_event:
        span |= {"name": "POST orders/", "parent_span_id": PARENT, "start": "1000", "end": "3000", "status": "ERROR"}
    facts: dict[str, Any] = {"actor": ["17", "anna", "user"], "at": "2000"}
    if kind == "request":
        facts |= {"method": "POST", "url": "/orders/", "route": "orders/", "scheme": "https", "status": 500, **BESIDE}
    facts |= changes.pop("facts", {})
    made = {
        "v": 1,
        "type": "event" if is_event else "span",
        "kind": kind,
        "id": ID,
        "service": "shop",
        "ids": {"request": REQUEST_ID, "process": None, "step": None},
        "span": {**span, **changes.pop("span", {})},
        "facts": facts,
        **changes,
    }
    back: dict[str, Any] = json.loads(json.dumps(made))
    return back


def attributes(span: Span | None) -> dict[str, Any]:
    """Return the attributes of a span as Python values."""
    assert span is not None
    return {each.key: _read(each.value) for each in span.attributes}


def _read(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_read(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: _read(item.value) for item in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)


def test_the_span_of_a_request_is_the_one_of_the_trace() -> None:
    span = as_span(envelope(), "trace")

    assert span is not None
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN, PARENT)
    assert (span.name, span.kind) == ("POST orders/", Span.SPAN_KIND_SERVER)
    assert (span.start_time_unix_nano, span.end_time_unix_nano, span.status.code) == (1000, 3000, 2)


def test_a_trace_has_standard_attributes_and_who_acted_as_a_hash() -> None:
    found = attributes(as_span(envelope(), "trace"))

    user = found.pop("user.hash")
    assert len(user) == 32
    assert found == {
        "http.request.method": "POST",
        "url.path": "/orders/",
        "url.scheme": "https",
        "http.route": "orders/",
        "http.response.status_code": 500,
        "error.type": "shop.SoldOut",
        "audit.record.id": ID,
    }


def test_the_same_actor_has_the_same_hash_and_another_one_another() -> None:
    hashes = [
        attributes(as_span(envelope(facts={"actor": [key, "x", "user"]}), "trace"))["user.hash"]
        for key in ("17", "17", "18")
    ]

    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("level", ["trace", "audit"])
@pytest.mark.parametrize("kind", ["request", "process", "step", "registration", "login"])
def test_what_travels_beside_the_span_stays_here_below_the_level_full(kind: str, level: str) -> None:
    known = {
        "client.address": "203.0.113.77",
        "url.full": "https://shop/?q=brass",
        "http.target": "/?q=brass",
        "exception.message": "no kettle left",
    }
    beside = {**BESIDE, "username": "mallory", "reason": "bad password", "attributes": known}

    span = as_span(envelope(kind, facts=beside), level)

    said = str(span)
    told = ("brass", "203.0.113.77", "kettle", '"id":7', "acme", "Traceback", "mallory", "bad password", "anna")
    assert [text for text in told if text in said] == []


def test_the_level_audit_says_who_did_what_to_what_and_how_it_ended() -> None:
    found = attributes(as_span(envelope(), "audit"))

    assert {key: value for key, value in found.items() if key.startswith(("audit.", "user."))} == {
        "audit.kind": "request",
        "audit.record.id": ID,
        "audit.schema.version": "1",
        "audit.action": "CREATE",
        "audit.outcome": "failure",
        "audit.actor.id": "17",
        "audit.actor.type": "user",
        "audit.target.id": "/orders/",
        "audit.target.type": "http.endpoint",
        "audit.request.id": REQUEST_ID,
    }


@pytest.mark.parametrize(
    ("actor", "named"),
    [
        ([None, "anonymous", "user"], ("anonymous", "user")),
        ([None, "nightly-import", "system"], ("nightly-import", "system")),
        (None, ("unknown", "user")),
    ],
)
def test_a_record_always_names_an_actor(actor: Any, named: tuple[str, str]) -> None:
    found = attributes(as_span(envelope(facts={"actor": actor}), "audit"))

    assert (found["audit.actor.id"], found["audit.actor.type"]) == named
    assert "user.hash" not in attributes(as_span(envelope(facts={"actor": actor}), "trace")) or actor is not None


def test_the_level_full_adds_what_travels_beside_the_span() -> None:
    found = attributes(as_span(envelope(facts={"changed": ["request_body:cut"]}), "full"))

    assert found["client.address"] == "203.0.113.77"
    assert found["url.query"] == "q=brass"
    assert found["audit.request.body"] == '{"sku":"kettle"}'
    assert found["audit.response.body"] == '{"id":7}'
    assert (found["exception.type"], found["exception.message"]) == ("shop.SoldOut", "no kettle left")
    assert found["exception.stacktrace"] == "Traceback …"
    assert (found["tenant"], found["lines"], found["nested"]) == ("acme", [1, 2], {"a": None})
    assert found["user.name"] == "anna"
    assert found["audit.changed"] == ["request_body:cut"]


def test_nothing_that_a_site_adds_takes_the_place_of_what_was_observed() -> None:
    forged = {"http.response.status_code": 200, "audit.actor.id": "1", "audit.anything": 1}

    found = attributes(as_span(envelope(facts={"extra": forged}), "full"))

    assert (found["http.response.status_code"], found["audit.actor.id"]) == (500, "17")
    assert "audit.anything" not in found


def test_a_process_keeps_its_attributes() -> None:
    known = {"audit.kind": "process", "audit.process.description": "Ships it", "server.address": "shop"}
    made = envelope("process", facts={"attributes": known}, span={"status": "UNSET"})

    trace, audit = attributes(as_span(made, "trace")), attributes(as_span(made, "audit"))

    assert (trace["server.address"], "audit.process.description" in trace) == ("shop", False)
    assert (audit["server.address"], audit["audit.process.description"]) == ("shop", "Ships it")
    assert (audit["audit.kind"], audit["audit.action"], audit["audit.outcome"]) == ("process", "EXECUTE", "success")


def test_a_step_says_its_order_although_its_span_did_not() -> None:
    assert attributes(as_span(envelope("step", facts={"order": 3}), "audit"))["audit.step.order"] == 3


def test_a_registration_is_a_span_below_the_one_that_it_happened_in() -> None:
    made = envelope("registration", facts={"name": "Charge the card", "success": False})

    span, again = as_span(made, "audit"), as_span(made, "audit")

    found = attributes(span)
    assert span is not None
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert (span.name, span.start_time_unix_nano, span.end_time_unix_nano) == ("audit.registration", 2000, 2000)
    assert span == again
    assert span.span_id.hex() == ID.replace("-", "")[16:]
    assert (found["audit.registration.name"], found["audit.registration.success"]) == ("Charge the card", False)
    assert found["audit.outcome"] == "failure"


def test_a_sign_in_says_its_method_and_outcome_and_the_attempted_name_at_the_level_full_alone() -> None:
    facts = {"action": "LOGIN", "outcome": "failure", "method": "simplejwt", "username": "mallory", "actor": None}
    made = envelope("login", facts={**facts, "user": None})

    audit, full = attributes(as_span(made, "audit")), attributes(as_span(made, "full"))

    assert (audit["audit.action"], audit["audit.outcome"], audit["audit.login.method"]) == (
        "LOGIN",
        "failure",
        "simplejwt",
    )
    assert audit["audit.actor.id"] == "unknown"
    assert full["user.name"] == "mallory"


@pytest.mark.parametrize(
    "made",
    [
        envelope("login"),
        envelope("registration"),
        envelope(span={"sampled": False}),
        envelope(span={"trace_id": "", "span_id": ""}),
    ],
    ids=["sign-in", "registration", "not sampled", "in no trace"],
)
def test_what_is_no_span_of_a_forwarded_trace_goes_out_at_the_levels_of_the_audit_trail_alone(
    made: dict[str, Any],
) -> None:
    assert as_span(made, "trace") is None
    assert as_span(made, "audit") is not None
    assert as_span(made, "full") is not None


def test_a_record_without_a_trace_is_one_of_its_own() -> None:
    span = as_span(envelope(span={"trace_id": "", "span_id": "", "parent_span_id": ""}), "audit")

    assert span is not None
    assert (len(span.trace_id), len(span.span_id), span.parent_span_id) == (16, 8, b"")
    assert any(span.trace_id)


def test_a_request_that_died_is_a_span_whose_outcome_is_not_known() -> None:
    made = envelope(type="intent", facts={"status": None, "outcome": "unknown", "error": None, "actor": None})
    del made["span"]["name"], made["span"]["status"]

    span = as_span(made, "audit")

    assert span is not None
    assert span.name == "POST orders/"
    assert attributes(span)["audit.outcome"] == "unknown"


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (True, True),
        (7, 7),
        (2**70, str(2**70)),
        (0.5, 0.5),
        ("a\ud800b", "a\\ud800b"),
        (["a", "b"], ["a", "b"]),
        ([{"a": 1}, None], [{"a": 1}, None]),
        ({"a": [1]}, {"a": [1]}),
    ],
)
def test_a_value_is_sent_as_what_it_is(value: Any, sent: Any) -> None:
    assert attributes(as_span(envelope(facts={"extra": {"value": value}}), "full"))["value"] == sent


def test_a_newer_envelope_is_not_guessed_at() -> None:
    with pytest.raises(OTelAuditError, match="version 2; known is 1"):
        as_span(envelope(v=2), "trace")


def test_a_clock_that_was_set_back_makes_no_span_that_ends_before_it_begins() -> None:
    span = as_span(envelope(span={"start": "3000", "end": "1000"}), "trace")

    assert span is not None
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (3000, 3000)


def test_each_service_is_a_resource_of_its_own_and_says_nothing_of_the_process_that_sends() -> None:
    span = as_span(envelope(), "trace")
    assert span is not None

    request = as_request([("shop", span), ("stock", span), ("shop", span)])

    found = {
        next(each.value.string_value for each in spans.resource.attributes if each.key == "service.name"): spans
        for spans in request.resource_spans
    }
    assert {name: len(spans.scope_spans[0].spans) for name, spans in found.items()} == {"shop": 2, "stock": 1}
    keys = {each.key for spans in found.values() for each in spans.resource.attributes}
    assert not [key for key in keys if key.startswith(("process.", "service.instance", "telemetry."))]
