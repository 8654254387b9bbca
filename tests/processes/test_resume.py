"""A process that goes on elsewhere: the carrier is signed, and nothing else is believed."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from django.core import signing
from django.test import override_settings

from otel_audit import carrier, process, resume, step
from otel_audit.exceptions import CarrierError, OTelAuditError
from otel_audit.scope import current_note
from otel_audit.testing import AuditRecords

pytestmark = pytest.mark.usefixtures("provider")


def elsewhere(carried: dict[str, str]) -> None:
    """Go on in another thread, as a task queue does, with what survives JSON."""

    def work() -> None:
        with resume(json.loads(json.dumps(carried))) as p, p.step("pack", expect=1) as s:
            s.register(True, "packed")
        assert current_note.get() is None

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_step_elsewhere_belongs_to_the_process(records: AuditRecords) -> None:
    with process("Order") as p:
        with p.step("pay"):
            pass
        carried = carrier(p)
    elsewhere(carried)

    (row,) = records.processes
    pay, pack = records.steps
    assert pay.process_id == pack.process_id == row.id
    assert pack.trace_id == row.trace_id
    assert pack.parent_span_id == row.span_id
    assert (pay.order, pack.order) == (1, 2)
    assert records.registrations[0].step_id == pack.id


def test_failure_elsewhere_fails_the_step(records: AuditRecords) -> None:
    with process("Order") as p:
        carried = carrier(p)

    with pytest.raises(ValueError, match="no box"), resume(carried) as resumed, resumed.step("pack"):
        raise ValueError("no box")

    assert [row.outcome for row in records.steps] == ["failure"]
    assert len(records.processes) == 1


async def test_process_is_resumed_in_an_event_loop(records: AuditRecords) -> None:
    async with process("Order") as p:
        carried = carrier(p)

    async with resume(carried), step("pack"):
        pass

    assert records.steps[0].process_id == records.processes[0].id


def test_resumed_process_can_be_carried_on(records: AuditRecords) -> None:
    with process("Order") as p:
        carried = carrier(p)
    with resume(carried) as second:
        carried = carrier(second)
    elsewhere(carried)

    assert records.steps[0].process_id == records.processes[0].id


def test_trace_headers_beside_the_signature_are_not_believed(records: AuditRecords) -> None:
    with process("Order") as p:
        carried = carrier(p)

    elsewhere({**carried, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})

    assert records.steps[0].trace_id == records.processes[0].trace_id


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"traceparent": "00-x"},
        {"otel-audit": ""},
        {"otel-audit": "nonsense"},
        {"otel-audit": signing.dumps({"process": None}, salt="another")},
        {"otel-audit": None},
        {"otel-audit": 7},
        None,
        "text",
        [],
    ],
)
def test_broken_carrier_is_refused_with_a_clear_error(broken: Any) -> None:
    with pytest.raises(CarrierError, match=r"^resume\(\) got .*[A-Z_a-z]\.$") as caught:
        resume(broken)

    assert isinstance(caught.value, OTelAuditError)


def test_tampered_carrier_is_refused(records: AuditRecords) -> None:
    with process("Order") as p:
        carried = carrier(p)
    signed = carried["otel-audit"]

    with pytest.raises(CarrierError, match="did not sign"):
        resume({"otel-audit": ("A" if signed[0] != "A" else "B") + signed[1:]})


def test_expired_carrier_is_refused(records: AuditRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    with process("Order") as p:
        carried = carrier(p)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 8 * 24 * 3600)

    with pytest.raises(CarrierError, match="older than a week"):
        resume(carried)


def test_carrier_of_another_site_is_refused(records: AuditRecords) -> None:
    with process("Order") as p, override_settings(SECRET_KEY="another-key-that-is-long-enough-for-hs256-too"):
        carried = carrier(p)

    with pytest.raises(CarrierError, match="SECRET_KEY"):
        resume(carried)


OFF = {"DATABASE": "audit", "ENABLED": False}


def test_switched_off_here_the_process_is_not_recorded_there(records: AuditRecords) -> None:
    with override_settings(OTEL_AUDIT=OFF), process("Order") as p:
        carried = carrier(p)
    elsewhere(carried)

    assert records.processes == []
    assert [row.process_id for row in records.steps] == [None]


def test_switched_off_there_nothing_breaks(records: AuditRecords) -> None:
    with process("Order") as p:
        carried = carrier(p)
    with override_settings(OTEL_AUDIT=OFF):
        elsewhere(carried)
        elsewhere({})

    assert records.steps == []
