"""Received spans become the rows that they would have become where they were made, the same each time."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import override_settings
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState

from otel_audit import attributes as keys
from otel_audit.ids import record_id
from otel_audit.trace_member import member_of
from otel_audit_exporters.otlp_requests import UnacceptableError
from otel_audit_exporters.received_records import records_of

from .sending import Service, one_span, register, rows_of, spans_in

SECRET = "hunter2-is-the-password"
PROCESS_ID = "01a20df3-3586-75ca-90fe-8cc5cdc5e97e"


def a_process(service: Service) -> None:
    """Do what a service in any language does by plain OpenTelemetry."""
    with service.process(**{"audit.process.description": "one tea", "sku": "A-1"}):
        with service.step(**{"audit.step.expected_registrations": 2}) as span:
            register(span, **{"audit.registration.name": "free", "n": 1})
            register(span, False, **{"audit.registration.name": "priced"})
        with service.step("Save") as span:
            register(span)


# ── processes ───────────────────────────────────────────────────────────────────────────────────


def test_a_process_with_its_steps_and_registrations_becomes_linked_rows() -> None:
    service = Service()
    a_process(service)

    found = rows_of(service.request())

    (process,) = found["process"]
    steps = sorted(found["step"], key=lambda step: step.order)
    assert (process.name, process.description, process.extra_informations) == (
        "Create product",
        "one tea",
        {"sku": "A-1"},
    )
    assert [(step.name, step.order, step.total_registrations) for step in steps] == [("Validate", 1, 2), ("Save", 2, 1)]
    assert {step.process_id for step in steps} == {process.id}
    assert [(row.name, row.success, row.step_id, row.extra_informations) for row in found["registration"]] == [
        ("free", True, steps[0].id, {"n": 1}),
        ("priced", False, steps[0].id, None),
        ("", True, steps[1].id, None),
    ]
    assert {row.service_name for rows in found.values() for row in rows} == {"shop"}
    assert {row.trace_id for rows in found.values() for row in rows} == {process.trace_id}


def test_the_same_request_becomes_the_same_records_each_time() -> None:
    service = Service()
    a_process(service)

    first, second = records_of(service.request(), "shop"), records_of(service.request(), "shop")

    assert first == second
    assert len({record.id for record in first[0]}) == len(first[0]) == 6


def test_steps_that_come_before_their_process_belong_to_it() -> None:
    service = Service()
    a_process(service)

    apart = [rows_of(encode_spans([span])) for span in service.spans]

    steps, (process,) = [row for found in apart for row in found.get("step", [])], apart[-1]["process"]
    assert {step.process_id for step in steps} == {process.id}
    assert rows_of(service.request())["process"][0].id == process.id


def test_an_ordinary_span_between_a_process_and_its_step_does_not_part_them() -> None:
    service = Service()
    ordinary = service.tracer.start_as_current_span
    with service.process(), ordinary("query"), service.step(), ordinary("inner") as inner:
        register(inner)

    found = rows_of(service.request())

    assert found["step"][0].process_id == found["process"][0].id
    assert found["registration"][0].step_id == found["step"][0].id


def test_a_step_of_a_process_of_another_service_belongs_to_it_when_it_says_so() -> None:
    service, process_id = Service(), record_id()
    remote = SpanContext(7, 7, is_remote=True, trace_flags=TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(remote)):
        with service.step("Ship", **{"audit.process.id": process_id}):
            pass
        with service.step("Bill"):
            pass

    ship, bill = rows_of(service.request())["step"]

    assert str(ship.process_id) == process_id
    assert bill.process_id is None


PEERS = {"TRUSTED_PEERS": [{"secret": "a secret between services"}]}


@contextmanager
def called_in(process_id: str, *, trace_id: int = 7, signed_for: int = 7) -> Iterator[None]:
    """Run in a service that was called in a process, whose id its SDK hands down."""
    with override_settings(OTEL_AUDIT=PEERS):
        state = TraceState([("vendor", "1"), ("otel-audit", str(member_of(process_id, signed_for)))])
        remote = SpanContext(trace_id, 9, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
        with trace.use_span(trace.NonRecordingSpan(remote)):
            yield


def test_a_step_in_a_service_that_was_called_in_a_process_belongs_to_it_whatever_comes_with_it() -> None:
    service, process_id = Service(), record_id()
    with called_in(process_id):
        with service.tracer.start_as_current_span("GET /ship/", kind=SpanKind.SERVER), service.step("Ship") as span:
            register(span)

        together = rows_of(service.request())
        alone = rows_of(encode_spans(service.spans[:1]))

    assert str(together["step"][0].process_id) == str(alone["step"][0].process_id) == process_id
    assert together["registration"][0].step_id == together["step"][0].id


@pytest.mark.parametrize("given", [{"audit.process.id": PROCESS_ID}, {}])
def test_a_process_that_a_step_says_or_runs_in_comes_before_that_of_the_call(given: dict[str, str]) -> None:
    service = Service()
    with called_in(record_id()):
        with service.process(**{"audit.record.id": PROCESS_ID}), service.step("Ship", **given):
            pass

        found = rows_of(service.request())

    assert [str(step.process_id) for step in found["step"]] == [PROCESS_ID]


@pytest.mark.parametrize(("settings", "signed_for"), [({}, 7), (PEERS, 8)])
def test_a_process_that_nobody_has_signed_for_this_trace_is_none(settings: dict[str, Any], signed_for: int) -> None:
    service = Service()
    with called_in(record_id(), signed_for=signed_for), service.step("Ship"):
        pass

    with override_settings(OTEL_AUDIT=settings):
        (step,) = rows_of(service.request())["step"]

    assert step.process_id is None


def test_spans_in_a_ring_are_stored_and_lead_nowhere() -> None:
    request = one_span()
    (span,) = spans_in(request)
    span.attributes[0].value.string_value = "step"
    span.parent_span_id = span.span_id

    (step,) = rows_of(request)["step"]

    assert step.process_id is None


# ── requests and sign-ins ───────────────────────────────────────────────────────────────────────


def test_a_server_span_becomes_a_request_with_the_process_inside_it() -> None:
    service = Service()
    attributes: dict[str, Any] = {
        "http.request.method": "POST",
        "url.path": "/products",
        "url.query": "page=2",
        "http.route": "/products",
        "http.response.status_code": 201,
        "client.address": "192.0.2.7",
        "user.id": "17",
        "user.name": "anna",
    }
    with service.tracer.start_as_current_span("POST /products", kind=SpanKind.SERVER, attributes=attributes) as span:
        span.add_event("audit.login", {"audit.action": "LOGIN", "audit.login.method": "sso", "audit.actor.id": "17"})
        with service.process():
            pass

    found = rows_of(service.request())

    (request,), (login,), (process,) = found["request"], found["login"], found["process"]
    assert (request.method, request.url, request.query_params, request.status_code) == (
        "POST",
        "/products",
        "page=2",
        201,
    )
    assert (request.user, request.actor_name, request.ip_addresses) == ("17", "anna", "192.0.2.7")
    assert (request.outcome, request.action) == ("success", "CREATE")
    assert request.extra_informations is None
    assert (login.status, login.user, login.method, login.request_id) == ("Sign in", "17", "sso", request.id)
    assert process.request_id == request.id


def test_sign_ins_and_registrations_that_are_spans_of_their_own_belong_where_they_happened() -> None:
    service, login_id, step_id = Service(), record_id(), record_id()
    login = {"audit.kind": "login", "audit.record.id": login_id, "audit.action": "LOGIN", "audit.outcome": "failure"}
    login |= {"user.name": "anna", "audit.login.reason": "bad password", "audit.actor.id": "unknown"}
    registration = {"audit.kind": "registration", "audit.registration.success": True, "audit.step.id": step_id, "n": 1}
    with service.tracer.start_as_current_span("GET /", kind=SpanKind.SERVER) as span:
        service.tracer.start_span("audit.login", attributes=login).end()
        service.tracer.start_span("audit.registration", attributes=registration).end()

    found = rows_of(service.request())

    (failed,), (registered,) = found["login"], found["registration"]
    assert (str(failed.id), failed.status, failed.username, failed.reason) == (
        login_id,
        "Failed",
        "anna",
        "bad password",
    )
    assert failed.user is None
    assert failed.request_id == found["request"][0].id
    assert {failed.span_id, registered.span_id} == {f"{span.get_span_context().span_id:016x}"}
    assert (str(registered.step_id), registered.success, registered.extra_informations) == (step_id, True, {"n": 1})


def test_what_travels_beside_the_span_where_it_was_made_is_read_from_its_attributes() -> None:
    service = Service()
    attributes: dict[str, Any] = {
        "audit.kind": "request",
        "http.request.method": "PUT",
        "url.path": "/a",
        "audit.request.body": '{"n": 1}',
        "audit.response.body": "done",
        "http.request.body.size": 8,
        "exception.type": "ValueError",
        "exception.message": "empty",
        "exception.stacktrace": "Traceback",
        "audit.outcome": "failure",
        "audit.changed": ["response_body:cut"],
    }
    service.tracer.start_span("PUT /a", kind=SpanKind.SERVER, attributes=attributes).end()

    (request,) = rows_of(service.request())["request"]

    assert (request.request_body, request.response_body, request.request_size) == ('{"n": 1}', "done", 8)
    assert (request.error_type, request.error_message, request.error_stacktrace) == ("ValueError", "empty", "Traceback")
    assert request.outcome == "failure"
    assert "response_body:cut" in request.changed_fields


def test_an_exception_of_a_span_is_kept_with_it() -> None:
    service = Service()
    with pytest.raises(ValueError, match="till"), service.process():
        raise ValueError("the till is empty")

    (process,) = rows_of(service.request())["process"]

    assert process.outcome == "failure"
    assert process.extra_informations["exception"]["message"] == "the till is empty"


def test_ordinary_spans_make_no_record() -> None:
    service = Service()
    for kind in (SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.CONSUMER):
        service.tracer.start_span("query", kind=kind, attributes={"audit.kind": "none"}).end()

    assert records_of(service.request(), "shop") == ([], 3)


def test_the_span_of_a_request_that_brought_spans_here_makes_no_record() -> None:
    service = Service()
    service.tracer.start_span("POST", kind=SpanKind.SERVER, attributes={"audit.receiver": True}).end()

    assert records_of(service.request(), "shop") == ([], 1)


# ── ids ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_id_that_the_sender_gave_is_the_row_s() -> None:
    service, given, event = Service(), record_id(), record_id()
    with service.process(**{"audit.record.id": given}), service.step() as span:
        register(span, **{"audit.record.id": event})

    found = rows_of(service.request())

    assert str(found["process"][0].id) == given
    assert str(found["step"][0].process_id) == given
    assert str(found["registration"][0].id) == event
    assert found["registration"][0].extra_informations is None


def test_an_id_of_another_form_becomes_one_of_ours_whatever_else_the_span_says() -> None:
    service = Service()
    now = time.time_ns()
    for name in ("one", "two"):
        attributes = {"audit.kind": "process", "audit.record.id": "order-42"}
        service.tracer.start_span(name, attributes=attributes, start_time=now).end()

    ids = [rows_of(encode_spans([span]))["process"][0].id for span in service.spans]

    assert ids[0] == ids[1]
    assert ids[0].version == 7


@pytest.mark.parametrize("what", ["service", "trace", "span", "index"])
def test_ids_differ_by_service_trace_span_and_place_in_the_span(what: str) -> None:
    request = one_span()
    (span,) = spans_in(request)
    for _ in range(2):
        event = span.events.add(name="audit.registration", time_unix_nano=span.start_time_unix_nano)
        event.attributes.add(key="n").value.int_value = 1
    other = type(request).FromString(request.SerializeToString())
    (changed,) = spans_in(other)
    if what == "trace":
        changed.trace_id = uuid.uuid4().bytes
    elif what == "span":
        changed.span_id = uuid.uuid4().bytes[:8]
    if what == "service":
        request.resource_spans[0].ClearField("resource")
        other.resource_spans[0].ClearField("resource")

    first = [record.id for record in records_of(request, "shop")[0]]
    second = [record.id for record in records_of(other, "bank" if what == "service" else "shop")[0]]

    assert len(set(first)) == 3
    assert (set(first) & set(second) == set()) is (what != "index")


def test_two_records_with_one_id_and_two_contents_are_refused() -> None:
    service, given = Service(), record_id()
    for name in ("one", "two"):
        with service.process(name, **{"audit.record.id": given}):
            pass

    with pytest.raises(UnacceptableError) as refused:
        records_of(service.request(), "shop")

    assert refused.value.status == 409


# ── whom and what is believed ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("claimed", [None, "shop", "", "unknown_service", "unknown_service:node"])
def test_who_names_no_other_service_is_the_token_s(claimed: str | None) -> None:
    service = Service(claimed)
    with service.process():
        pass

    assert rows_of(service.request())["process"][0].service_name == "shop"


def test_who_names_another_service_than_the_token_s_is_refused() -> None:
    service = Service("bank")
    with service.process():
        pass

    with pytest.raises(UnacceptableError) as refused:
        records_of(service.request(), "shop")

    assert refused.value.status == 403


def test_what_is_received_is_redacted() -> None:
    service = Service()
    secret = {"password": SECRET, "nested": f'{{"password": "{SECRET}"}}', "user.name": f"password={SECRET}"}
    secret |= {"url.query": f"token={SECRET}", "audit.request.body": f'{{"password": "{SECRET}"}}'}
    secret |= {"exception.message": f"password={SECRET}", "audit.process.description": f"password={SECRET}"}
    with service.tracer.start_as_current_span(f"password={SECRET}", kind=SpanKind.SERVER, attributes=secret) as span:
        span.add_event("audit.login", secret)
        with service.process(f"password={SECRET}", **secret), service.step(**secret) as step:
            register(step, **secret, **{"audit.registration.description": f"password={SECRET}"})
            step.record_exception(ValueError(f"password={SECRET}"))

    records, _ = records_of(service.request(), "shop")

    assert len(records) == 5
    assert SECRET.encode() not in b"".join(record.core for record in records)


@pytest.mark.parametrize("depth", [1, 20, 27])
def test_nested_attributes_are_kept(depth: int) -> None:
    request = one_span()
    (span,) = spans_in(request)
    value = span.attributes.add(key="nested").value
    for _ in range(depth):
        value = value.kvlist_value.values.add(key="in").value
    value.array_value.values.add().double_value = float("nan")

    (row,) = rows_of(request)["process"]

    inner = row.extra_informations["nested"]
    for _ in itertools.repeat(None, depth):
        inner = inner["in"] if isinstance(inner, dict) else inner
    assert inner == ["NaN"] or "nested deeper" in str(inner)


@pytest.mark.parametrize("kind", ["process", "step", "request", "login", "registration"])
@pytest.mark.parametrize("value", ["kvlist_value", "array_value", "bytes_value", "double_value", "bool_value"])
def test_a_value_of_any_type_is_taken_for_every_attribute_that_becomes_a_column(kind: str, value: str) -> None:
    request = one_span()
    (span,) = spans_in(request)
    span.attributes[0].value.string_value = kind
    for key in vars(keys).values():
        if isinstance(key, str) and "." in key and key not in (keys.AUDIT_KIND, keys.AUDIT_RECEIVER):
            added = span.attributes.add(key=key).value
            if value in ("kvlist_value", "array_value"):
                getattr(added, value).values.add()
            else:
                setattr(added, value, {"bytes_value": b"\xff", "double_value": float("nan")}.get(value, True))

    assert sum(map(len, rows_of(request).values())) == 1


def test_a_method_that_is_no_text_is_stored_as_one() -> None:
    request = one_span(kind=2)
    (span,) = spans_in(request)
    span.attributes[0].key = keys.HTTP_REQUEST_METHOD
    span.attributes[0].value.array_value.values.add().string_value = "GET"

    (row,) = rows_of(request)["request"]

    assert (row.method, row.action) == ("['GET']", "EXECUTE")


# ── limits ──────────────────────────────────────────────────────────────────────────────────────

YEAR_NS = 365 * 86_400 * 10**9


def add_attributes(holder: Any, number: int) -> None:
    for index in range(number):
        holder.attributes.add(key=f"k{index}").value.int_value = index


def refusal(request: Any) -> int | None:
    """Return the status with which a request is refused; None when it is not."""
    try:
        records_of(request, "shop")
    except UnacceptableError as error:
        return error.status
    return None


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, None),
        ({"start_time_unix_nano": 0}, 400),
        ({"start_time_unix_nano": 1}, 400),
        ({"start_time_unix_nano": 2**64 - 1}, 400),
        ({"start_time_unix_nano": time.time_ns() + YEAR_NS}, 400),
        ({"start_time_unix_nano": time.time_ns() - 5 * YEAR_NS}, None),
        ({"end_time_unix_nano": 0}, None),
        ({"end_time_unix_nano": 2**64 - 1}, None),
        ({"trace_id": b""}, 400),
        ({"trace_id": bytes(16)}, 400),
        ({"trace_id": b"x" * 17}, 400),
        ({"span_id": b"x"}, 400),
        ({"span_id": bytes(8)}, 400),
        ({"parent_span_id": b"x"}, 400),
        ({"parent_span_id": bytes(8)}, None),
        ({"name": ""}, None),
        ({"name": "n" * 100_000}, None),
        ({"kind": 77}, None),
        ({"dropped_attributes_count": 2**32 - 1}, None),
    ],
)
def test_a_span_is_taken_or_refused(changes: dict[str, Any], status: int | None) -> None:
    assert refusal(one_span(**changes)) == status


@pytest.mark.parametrize(("number", "status"), [(990, None), (1_001, 400), (10_000, 400)])
@pytest.mark.parametrize("where", ["span", "event", "resource"])
def test_more_attributes_than_a_thousand_are_refused(where: str, number: int, status: int | None) -> None:
    request = one_span()
    (span,) = spans_in(request)
    event = span.events.add(name="audit.registration", time_unix_nano=span.start_time_unix_nano)
    add_attributes({"span": span, "event": event, "resource": request.resource_spans[0].resource}[where], number)

    assert refusal(request) == status


def test_more_events_than_ten_thousand_are_refused() -> None:
    request = one_span()
    (span,) = spans_in(request)
    for _ in range(10_001):
        span.events.add(name="x")

    assert refusal(request) == 400


def test_an_event_of_1970_is_refused_with_its_span() -> None:
    request = one_span()
    (span,) = spans_in(request)
    span.events.add(name="audit.registration", time_unix_nano=0)

    assert refusal(request) == 400


def test_what_the_sender_dropped_is_said() -> None:
    (row,) = rows_of(one_span(dropped_events_count=3))["process"]

    assert "span.dropped" in row.changed_fields
