"""Real servers and OpenTelemetry's own exporter: what is acknowledged is stored, once, whoever is killed."""

from __future__ import annotations

import gzip
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_django
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_audit.ids import record_id
from otel_audit_exporters.otlp_requests import MAX_BYTES
from tests.fresh_databases import fresh_databases

from .sending import JSON, PROTOBUF, Service, one_span, spans_in
from .serving import PROCESS, RECEIVE, REGISTRATION, START_S, STEP, Site, listener, until

__all__ = ["listener"]


@pytest.fixture
def site(tmp_path: Path, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Site]:
    """A site with databases of its own."""
    with fresh_databases(["default", "audit"], tmp_path, django_db_blocker) as databases:
        yield Site(tmp_path, databases)


SERVERS = {
    "receive": RECEIVE,
    "gunicorn": ["-m", "gunicorn", "receiving_wsgi", "--bind", "fd://{fd}", "--threads", "2"],
}


@pytest.mark.e2e
@pytest.mark.parametrize("server", SERVERS)
def test_what_opentelemetry_s_exporter_sends_is_stored_once(site: Site, listener: socket.socket, server: str) -> None:
    count = 20
    with site.running(listener, SERVERS[server]) as process:
        with site.sending(listener, count) as sender:
            assert sender.wait(START_S) == 0, site.log()
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0, site.log()

    counts = site.drained()

    assert len(site.acknowledged()) == count
    assert (counts["stored"], counts["lost"], counts["quarantined"]) == (3 * count, 0, 0)
    assert site.query(f"SELECT count(*), count(DISTINCT name) FROM {PROCESS}") == [(count, count)]
    linked = f"SELECT count(*) FROM {REGISTRATION} r JOIN {STEP} s ON r.step_id = s.id JOIN {PROCESS} p"
    assert site.query(f"{linked} ON s.process_id = p.id WHERE p.service_name = 'till'") == [(count,)]


@pytest.mark.e2e
def test_a_receiver_that_is_killed_costs_and_doubles_nothing_behind_a_sender_that_tries_again(
    site: Site, listener: socket.socket
) -> None:
    count, kills, chance = 450, 5, random.Random(7)
    with site.sending(listener, count) as sender:
        for _ in range(kills):
            enough = min(count, len(site.acknowledged()) + chance.randint(1, 40))  # where the sender is that fast
            with site.running(listener, RECEIVE):
                assert until(lambda enough=enough: len(site.acknowledged()) >= enough), site.log()
        with site.running(listener, RECEIVE):
            assert sender.wait(START_S) == 0, site.log()

    counts = site.drained()

    acknowledged = sorted(site.acknowledged())
    assert acknowledged == sorted(f"sale {number}" for number in range(count))
    assert (counts["lost"], counts["quarantined"], counts["pending"]) == (0, 0, 0)
    assert sorted(name for (name,) in site.query(f"SELECT name FROM {PROCESS}")) == acknowledged
    for table in (STEP, REGISTRATION):
        assert site.query(f"SELECT count(*), count(DISTINCT span_id) FROM {table}") == [(count, count)]


def _of_till(**changes: Any) -> ExportTraceServiceRequest:
    request = one_span(**changes)
    for attribute in request.resource_spans[0].resource.attributes:
        if attribute.key == "service.name":
            attribute.value.string_value = "till"
    return request


def _bad_requests() -> Iterator[tuple[str, int, Any, dict[str, str]]]:
    """Yield what a request has wrong, the status for it, its body, and the headers that differ."""
    good = _of_till().SerializeToString()
    far, long_ago, crowd = _of_till(start_time_unix_nano=2**63), _of_till(start_time_unix_nano=1), _of_till()
    for number in range(10_000):
        next(iter(spans_in(crowd))).attributes.add(key=f"key {number}").value.int_value = number
    yield "malformed", 400, b"\xff" * 100, {}
    yield "malformed JSON", 400, b"{", {"Content-Type": JSON}
    yield "truncated", 400, good[:-3], {}
    yield "truncated gzip", 400, gzip.compress(good)[:-3], {"Content-Encoding": "gzip"}
    yield "of the future", 400, far.SerializeToString(), {}
    yield "of 1970", 400, long_ago.SerializeToString(), {}
    yield "with 10,000 attributes", 400, crowd.SerializeToString(), {}
    yield "without a token", 401, good, {"Authorization": ""}
    yield "with a wrong token", 401, good, {"Authorization": "Bearer otel_audit_x"}
    claimed = {"Authorization": "", "X-Client-Certificate": "CN=till", "X-Forwarded-For": "203.0.113.9"}
    yield "from a proxy, as it says", 401, good, claimed
    yield "of another service", 403, one_span().SerializeToString(), {}
    # Without a Content-Length, by which it would be refused, and the connection reset, while the client still writes.
    yield "oversized", 413, iter([bytes(MAX_BYTES), b"x"]), {}
    yield "oversized when inflated", 413, gzip.compress(bytes(MAX_BYTES + 1)), {"Content-Encoding": "gzip"}
    yield "of another content type", 415, good, {"Content-Type": "text/plain"}
    yield "of another encoding", 415, good, {"Content-Encoding": "br"}


@pytest.mark.e2e
def test_bad_requests_over_a_real_connection_are_refused_with_a_reason_and_write_nothing(
    site: Site, listener: socket.socket
) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
    usual = {"Content-Type": PROTOBUF, "Authorization": f"Bearer {site.token}"}
    site.manage("otel_audit", "token", "create", "--service", "till", "--certificate", "CN=till")
    identity = record_id()
    taken, conflict = (_process_of_till(name, identity) for name in ("Sale", "Something else"))
    with site.running(listener, RECEIVE) as process, httpx.Client(trust_env=False, timeout=START_S) as client:
        answers = [
            (what, status, client.post(url, content=body, headers=usual | headers))
            for what, status, body, headers in _bad_requests()
        ]
        assert client.post(url, content=taken, headers=usual).status_code == 200, site.log()
        answers.append(("with a known id", 409, client.post(url, content=conflict, headers=usual)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0, site.log()

    counts = site.drained()

    assert [(what, answer.status_code) for what, _, answer in answers] == [
        (what, status) for what, status, _ in answers
    ]
    reasons = [_reason(answer) for _, _, answer in answers]
    assert all(reason.endswith(".") and "Error" not in reason for reason in reasons)
    assert (counts["stored"], counts["lost"], counts["quarantined"]) == (1, 0, 0)
    assert "Traceback" not in site.log()
    for alarm in ("refused", "denied", "conflict"):
        assert f"Audit delivery: {alarm}" in site.log()


def _process_of_till(name: str, identity: str) -> bytes:
    service = Service("till")
    with service.process(name, **{"audit.record.id": identity}):
        pass
    return service.request().SerializeToString()


def _reason(answer: httpx.Response) -> str:
    if answer.headers["Content-Type"] == PROTOBUF:
        return str(Status.FromString(answer.content).message)
    return str(answer.json()["message"])
