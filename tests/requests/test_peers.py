"""A process that another service began goes on in a request of a trusted peer, and of nobody else."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

import pytest
from django.core import signing
from django.test import override_settings

from otel_audit import carrier, process
from otel_audit.carriers import CARRIER_SALT
from otel_audit.testing import AuditRecords

from .conftest import URLS
from .doors import CLIENT, Door

pytestmark = [pytest.mark.urls(URLS), pytest.mark.usefixtures("fresh_provider")]

SECRET = "a secret between two services"
OTHER_KEY = "the-key-of-another-service-that-is-long-enough"
PROCESS = "01a20df3-3586-75ca-90fe-8cc5cdc5e97e"


def trusting(*peers: Any, proxies: tuple[str, ...] = ()) -> override_settings:
    """Return settings that trust ``peers``."""
    return override_settings(
        OTEL_AUDIT={"DATABASE": "audit", "TRUSTED_PEERS": list(peers), "TRUSTED_PROXIES": list(proxies)}
    )


@pytest.fixture
def headers(records: AuditRecords) -> dict[str, str]:
    """What a service with another key sends."""
    with override_settings(SECRET_KEY=OTHER_KEY), process("Order") as p:
        return carrier(p)


def went_on(records: AuditRecords) -> bool:
    """Whether the step of the request belongs to the process of the other service."""
    (process_row,) = records.processes
    (step,) = records.steps
    (request,) = records.requests
    told = (request.extra_informations or {}).get("audit.process.id")
    assert told == (None if step.process_id is None else str(step.process_id))
    assert request.actor_name == "anonymous"
    return bool(step.process_id == process_row.id)


@pytest.mark.parametrize("peer", [CLIENT, "192.0.2.0/24", {"secret": SECRET}])
def test_process_of_a_trusted_peer_goes_on(
    door: Door, records: AuditRecords, headers: dict[str, str], peer: Any
) -> None:
    with trusting("10.0.0.0/8", peer):
        door.get("/one_step/", headers={**headers, "Otel-Audit-Secret": SECRET})

    assert went_on(records)
    assert records.requests[0].trace_id == records.processes[0].trace_id
    assert SECRET not in repr([vars(row) for row in records.all])


def test_steps_there_are_numbered_on(door: Door, records: AuditRecords) -> None:
    with process("Order") as p:
        with p.step("pay"):
            pass
        sent = carrier(p)
    with trusting(CLIENT):
        door.get("/one_step/", headers=sent)

    assert [row.order for row in records.steps] == [1, 2]


@pytest.mark.parametrize(
    "peers",
    [(), ("10.0.0.0/8",), ("unix:",), ({"secret": "another secret of a service"},), ({"secret": SECRET + "!"},)],
)
def test_process_of_anybody_else_does_not(
    door: Door, records: AuditRecords, headers: dict[str, str], peers: tuple[Any, ...]
) -> None:
    with trusting(*peers):
        door.get("/one_step/", headers={**headers, "Otel-Audit-Secret": SECRET})

    assert not went_on(records)


@pytest.mark.parametrize(
    ("proxies", "forwarded_for", "expected"),
    [
        ((), "192.0.2.9", False),  # a proxy in the peers' network that the site has not named as one
        ((CLIENT,), "203.0.113.9", False),
        ((CLIENT,), "192.0.2.9", True),
        ((CLIENT,), "192.0.2.9, 203.0.113.9", False),
    ],
)
def test_peer_behind_a_proxy_is_the_one_that_the_proxy_names(
    door: Door,
    records: AuditRecords,
    headers: dict[str, str],
    proxies: tuple[str, ...],
    forwarded_for: str,
    expected: bool,
) -> None:
    with trusting("192.0.2.0/24", proxies=proxies):
        door.get("/one_step/", headers={**headers, "X-Forwarded-For": forwarded_for})

    assert went_on(records) is expected


def test_request_after_it_is_of_no_process(door: Door, records: AuditRecords, headers: dict[str, str]) -> None:
    with trusting(CLIENT):
        door.get("/one_step/", headers=headers)
        records.clear()
        door.get("/one_step/")

    assert records.steps[0].process_id is None


def signed(payload: Any, *, age_s: float = 0.0) -> str:
    """Sign as a service with another key does, some time ago."""
    now = time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now - age_s)
        return signing.dumps(payload, key=OTHER_KEY, salt=CARRIER_SALT)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"process": PROCESS}, PROCESS),
        ({"process": PROCESS.upper(), "order": 3, "actor": "admin", "request": 7}, PROCESS),
        ({"process": PROCESS, "order": 10**30}, PROCESS),
        ({"process": None}, None),
        ({"process": "Order"}, None),
        ({"process": 7}, None),
        ({"process": [PROCESS]}, None),
        ({}, None),
        ([PROCESS], None),
        (None, None),
    ],
)
def test_carrier_of_a_trusted_peer_is_read_with_care(
    door: Door, records: AuditRecords, payload: Any, expected: str | None
) -> None:
    with trusting(CLIENT):
        door.get("/one_step/", headers={"Otel-Audit": signed(payload)})

    assert [row.process_id for row in records.steps] == [None if expected is None else UUID(expected)]
    assert records.requests[0].actor_name == "anonymous"


WEEK_S = 7 * 24 * 3600


@pytest.mark.parametrize(("age_s", "expected"), [(WEEK_S - 3600, True), (WEEK_S + 3600, False), (-3600, False)])
def test_carrier_of_a_trusted_peer_expires(door: Door, records: AuditRecords, age_s: float, expected: bool) -> None:
    with trusting(CLIENT):
        door.get("/one_step/", headers={"Otel-Audit": signed({"process": PROCESS}, age_s=age_s)})

    assert (records.steps[0].process_id is not None) is expected


def test_own_carrier_that_is_too_old_is_not_read_without_its_signature(door: Door, records: AuditRecords) -> None:
    now = time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now - WEEK_S - 3600)
        sent = signing.dumps({"process": PROCESS}, salt=CARRIER_SALT)

    with trusting(CLIENT):
        door.get("/one_step/", headers={"Otel-Audit": sent})

    assert records.steps[0].process_id is None


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "x",
        ":::",
        "a:b:c",
        ":0:c",
        "é:0:c",
        "e30:0:c",
        ".eJw:0:c",
        "e30:" + "z" * 1900 + ":c",
        "x" * 5000,
        "[" * 900,
    ],
)
def test_rubbish_in_the_place_of_a_carrier_changes_nothing(door: Door, records: AuditRecords, sent: str) -> None:
    with trusting(CLIENT):
        reply = door.get("/one_step/", headers={"Otel-Audit": sent})

    assert reply.status == 200
    assert records.steps[0].process_id is None


def test_carrier_survives_json(headers: dict[str, str]) -> None:
    assert json.loads(json.dumps(headers)) == headers
