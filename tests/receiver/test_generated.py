"""Requests that nobody thought of: each is taken or refused for a reason, and none is a bug of ours."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_audit.receiver.answers import JSON, PROTOBUF, Answer
from otel_audit.receiver.exchange import Exchange
from otel_audit.receiver.tokens import Sender
from otel_audit.testing import capture
from otel_audit_exporters.otlp_requests import MAX_BYTES

from .sending import Service, as_json, register

generated = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _known_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """No database is asked: tokens are not what is tested here."""
    from otel_audit.receiver import tokens

    monkeypatch.setattr(tokens.senders, "find", lambda token: Sender("shop", None))


def send(body: bytes, content_type: str, encoding: str = "") -> Answer:
    """Send a body; what is taken has to become rows."""
    headers = {"authorization": "Bearer x", "content-type": content_type, "content-encoding": encoding}
    exchange = Exchange(lambda name: headers.get(name, ""), "127.0.0.1")
    with capture() as records:
        answer = exchange.refusal() or exchange.answer(body)
        list(records)
    return answer


def valid() -> ExportTraceServiceRequest:
    """Return a request with something of everything."""
    service = Service()
    with service.process(**{"password": "x", "list": [1, 2], "audit.record.id": "a"}), service.step() as span:
        register(span, **{"audit.registration.name": "n"})
    service.tracer.start_span("GET /", attributes={"audit.kind": "request", "url.path": "/"}).end()
    return service.request()


VALID = valid().SerializeToString()
VALID_JSON = as_json(valid())
REFUSED = {400, 403, 409, 413}

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(["audit.kind", "step"])
)
keys = st.sampled_from(
    [f"audit.{name}" for name in ("kind", "record.id", "actor.id", "step.order", "login.reason", "changed", "outcome")]
    + ["audit.request.body", "http.method", "http.request.body.size", "exception.type", "user.name", "k"]
)
any_value = st.recursive(
    st.one_of(
        st.text(max_size=20).map(lambda found: {"stringValue": found}),
        st.sampled_from(["process", "step", "request", "login", "registration"]).map(
            lambda kind: {"stringValue": kind}
        ),
        st.booleans().map(lambda found: {"boolValue": found}),
        st.integers(-(2**63), 2**63 - 1).map(lambda found: {"intValue": str(found)}),
        st.floats().map(lambda found: {"doubleValue": found if found == found and abs(found) < 1e300 else "NaN"}),
        st.binary(max_size=9).map(lambda found: {"bytesValue": base64.b64encode(found).decode()}),
        st.just({}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda found: {"arrayValue": {"values": found}}),
        st.lists(st.tuples(keys, inner), max_size=3).map(
            lambda found: {"kvlistValue": {"values": [{"key": key, "value": value} for key, value in found]}}
        ),
    ),
    max_leaves=6,
)
attributes = st.lists(st.tuples(keys, any_value), max_size=6).map(
    lambda found: [{"key": key, "value": value} for key, value in found]
)
nanoseconds = st.sampled_from(["1790000000000000000", "1780000000000000000", "0", "1", str(2**64 - 1)])
span_ids = st.sampled_from(["0000000000000001", "0000000000000002", "0000000000000003", "", "00"])
spans = st.fixed_dictionaries(
    {"traceId": st.just("0" * 31 + "1"), "spanId": span_ids, "name": st.text(max_size=10), "attributes": attributes},
    optional={
        "parentSpanId": span_ids,
        "kind": st.integers(0, 9),
        "startTimeUnixNano": nanoseconds,
        "endTimeUnixNano": nanoseconds,
        "flags": st.sampled_from([0, 0x100, 0x300]),
        "status": st.fixed_dictionaries({"code": st.integers(0, 3), "message": st.text(max_size=5)}),
        "events": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from(["audit.registration", "audit.login", "exception", "x"]),
                    "timeUnixNano": nanoseconds,
                    "attributes": attributes,
                }
            ),
            max_size=2,
        ),
    },
)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of the examples are of the past."""
    from otel_audit_exporters import received_records

    monkeypatch.setattr(received_records, "_AHEAD_NS", 10**18)


@generated
@given(st.lists(spans, max_size=3))
def test_any_spans_are_taken_or_refused_and_what_is_taken_becomes_rows(found: list[Any]) -> None:
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": found}]}]}).encode()

    assert send(body, JSON).status in {200, *REFUSED}


@generated
@given(st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner)))
def test_any_json_is_taken_or_refused(found: Any) -> None:
    for body in (found, {"resourceSpans": found}, {"resourceSpans": [{"scopeSpans": [{"spans": [found]}]}]}):
        assert send(json.dumps(body).encode(), JSON).status in {200, *REFUSED}


@generated
@given(st.binary(max_size=200))
@example(b"")
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    for content_type in (PROTOBUF, JSON):
        for encoding in ("", "gzip"):
            assert send(body, content_type, encoding).status in {200, *REFUSED}


@generated
@given(st.data())
def test_a_request_with_some_bytes_changed_is_taken_or_refused(data: st.DataObject) -> None:
    for whole, content_type in ((VALID, PROTOBUF), (VALID_JSON, JSON)):
        body = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(body) - 1))
            body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

        assert send(bytes(body), content_type).status in {200, *REFUSED}
        assert send(gzip.compress(bytes(body)), content_type, "gzip").status in {200, *REFUSED}


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_a_gzip_bomb_is_refused_at_the_limit(content_type: str) -> None:
    bomb = gzip.compress(bytes(20 * MAX_BYTES), 9)
    tracemalloc.start()

    answer = send(bomb, content_type, "gzip")

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status == 413
    assert len(bomb) < MAX_BYTES / 30
    assert peak < 4 * MAX_BYTES
