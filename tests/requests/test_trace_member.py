"""A process goes on over plain W3C context where a peer has signed it, and by nothing that a client can make up."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from django.test import override_settings
from opentelemetry.propagate import inject

from otel_audit import carrier, process
from otel_audit.testing import AuditRecords
from otel_audit.trace_member import member_of

from .conftest import URLS
from .doors import CLIENT, Door
from .test_peers import OTHER_KEY, SECRET, trusting

pytestmark = [pytest.mark.urls(URLS), pytest.mark.usefixtures("fresh_provider")]

OTHER_SECRET = "a secret with another service"
PROCESS = "01a20df3-3586-75ca-90fe-8cc5cdc5e97e"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def there(*peers: Any) -> dict[str, str]:
    """Return the headers that a service with such peers sends from a step of its process."""
    headers: dict[str, str] = {}
    with trusting(*peers), override_settings(SECRET_KEY=OTHER_KEY), process("Order") as p, p.step("Take"):
        inject(headers)
    return headers


def signed(process_id: str = PROCESS, trace_id: str = TRACE, secret: str = SECRET) -> str:
    """Return a member as a service that knows ``secret`` writes it."""
    with trusting({"secret": secret}):
        return f"otel-audit={member_of(process_id, int(trace_id, 16))}"


def test_process_of_a_peer_goes_on_without_code_at_the_call(
    door: Door, records: AuditRecords, span_source: str
) -> None:
    with trusting({"secret": SECRET}):
        sent = {"Traceparent": PARENT, "Tracestate": f"vendor=1,{signed()}"}
        door.get("/one_step/", headers=sent)

    (request,) = records.requests
    (step,) = records.steps
    assert (step.process_id, step.order) == (UUID(PROCESS), 1)
    assert (request.extra_informations or {})["audit.process.id"] == PROCESS
    assert request.actor_name == "anonymous"
    assert request.trace_id == TRACE


def test_it_is_the_process_that_the_call_was_made_in(door: Door, records: AuditRecords) -> None:
    sent = there(CLIENT, {"secret": OTHER_SECRET}, {"secret": SECRET})
    with trusting({"secret": SECRET}):
        door.get("/one_step/", headers=sent)

    (order,) = records.processes
    assert [(step.name, step.process_id, step.order) for step in records.steps] == [
        ("Take", order.id, 1),
        ("Alone", order.id, 1),
    ]
    assert order.extra_informations is None
    assert records.requests[0].trace_id == order.trace_id
    assert order.id.version == 7


def test_a_service_without_a_shared_secret_tells_nobody_of_its_processes(records: AuditRecords) -> None:
    assert "tracestate" not in there()
    assert "tracestate" not in there(CLIENT)


@pytest.mark.parametrize(
    "member",
    [
        f"otel-audit={UUID(PROCESS).hex}",
        f"otel-audit={UUID(PROCESS).hex}-{'0' * 32}",
        f"otel-audit={UUID(PROCESS).hex}-",
        f"otel-audit={PROCESS}",
        signed(trace_id="1" * 32),
        signed(secret=OTHER_SECRET),
        signed().replace("otel-audit", "xotel-audit"),
        signed().upper(),
        signed() + "0",
        signed().replace(UUID(PROCESS).hex, UUID(PROCESS).hex[::-1]),
        "otel-audit=" + "é" * 64,
        "otel-audit=" * 900,
        "," + " " * 5000 + signed() + "x",
    ],
)
@pytest.mark.parametrize("peers", [(CLIENT, {"secret": SECRET}), (CLIENT,), ()])
def test_what_a_client_makes_up_claims_no_process(
    door: Door, records: AuditRecords, member: str, peers: tuple[Any, ...]
) -> None:
    with trusting(*peers):
        reply = door.get("/one_step/", headers={"Traceparent": PARENT, "Tracestate": member})

    assert reply.status == 200
    assert records.steps[0].process_id is None
    assert records.requests[0].extra_informations is None


@pytest.mark.parametrize("parent", ["", "00", "00-" + "g" * 32 + "-b7ad6b7169203331-01", PARENT.replace("0af", "0ae")])
def test_a_signature_holds_for_its_trace_alone(door: Door, records: AuditRecords, parent: str) -> None:
    with trusting({"secret": SECRET}):
        door.get("/one_step/", headers={"Traceparent": parent, "Tracestate": signed()})

    assert records.steps[0].process_id is None


@pytest.mark.parametrize("path", ["/call/", "/call_in_process/"])
def test_a_planted_member_does_not_get_through_a_trusted_service(
    door: Door, records: AuditRecords, span_source: str, path: str
) -> None:
    planted = f"otel-audit={UUID(PROCESS).hex}"
    with trusting(CLIENT, {"secret": SECRET}):
        sent = json.loads(door.get(path, headers={"Traceparent": PARENT, "Tracestate": planted}).body)
        records.clear()
        door.get("/one_step/", headers=sent)

    (step,) = records.steps
    assert step.process_id != UUID(PROCESS)
    assert sent["traceparent"].split("-")[1] == TRACE


@pytest.mark.parametrize("path", ["/call/", "/call_in_process/"])
def test_what_a_service_calls_in_its_turn_is_in_the_innermost_process(
    door: Door, records: AuditRecords, path: str
) -> None:
    with trusting({"secret": SECRET}):
        reply = door.get(path, headers={"Traceparent": PARENT, "Tracestate": signed()})
        inner = [row.id for row in records.processes]
        records.clear()
        door.get("/one_step/", headers=json.loads(reply.body))

    assert records.steps[0].process_id == (inner or [UUID(PROCESS)])[0]
    assert bool(inner) == (path == "/call_in_process/")


def test_a_carrier_numbers_on_and_one_that_is_not_believed_takes_nothing_away(
    door: Door, records: AuditRecords
) -> None:
    with trusting({"secret": SECRET}), override_settings(SECRET_KEY=OTHER_KEY), process("Order") as p:
        with p.step("Take"):
            pass
        sent = carrier(p)
    for peers in ((CLIENT,), ({"secret": SECRET},)):
        with trusting(*peers):
            door.get("/one_step/", headers=sent)

    assert {step.process_id for step in records.steps} == {records.processes[0].id}
    assert [step.order for step in records.steps] == [1, 2, 1]


def test_request_after_it_is_of_no_process(door: Door, records: AuditRecords) -> None:
    with trusting({"secret": SECRET}):
        door.get("/one_step/", headers={"Traceparent": PARENT, "Tracestate": signed()})
        door.get("/one_step/", headers={"Traceparent": PARENT})

    assert [step.process_id for step in records.steps] == [UUID(PROCESS), None]


def test_as_many_services_as_a_member_has_room_for_can_read_it() -> None:
    with trusting(*({"secret": f"{SECRET} {number}"} for number in range(9))):
        value = member_of(PROCESS, 1)

    assert value is not None
    assert len(value) <= 256
    assert value.count("-") == 6
