"""Forwarding that waits: nothing is missing at the collector, whoever was killed, and each span goes out once."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.collecting import collected, collector_process
from tests.e2e.otlp_server import grpc_collector, http_collector
from tests.e2e.shop import SERVERS, Shop, until
from tests.e2e.test_forwarding import BESIDE_THE_SPAN, SECRETS, visit
from tests.e2e.visitors import Visitors

pytestmark = pytest.mark.e2e

KILLS = 4
REQUESTS = 240
COLLECTORS = {"http/protobuf": http_collector, "grpc": grpc_collector}
_SPANS = ("request", "process", "step")


def _forward(shop: Shop, endpoint: str, **options: object) -> None:
    shop.settings["OTEL_AUDIT"] = {"OTLP": {"endpoint": endpoint, "durable": True, "timeout": 5, **options}}


def _recorded(shop: Shop) -> set[tuple[str, str]]:
    """Return trace id and span id of every row that is a span."""
    return {row for table in _SPANS for row in shop.rows(table, "trace_id", "span_id")}


def _status(shop: Shop) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shop.manage("otel_audit", "status", "--json"))
    return found


def test_nothing_is_missing_at_a_collector_that_is_killed_again_and_again(shop: Shop, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    file = tmp_path / "collected"
    _forward(shop, f"http://127.0.0.1:{port}/v1/traces")
    shop.expected_errors = ("collector",)

    with shop.serve(SERVERS["gunicorn --preload"]) as server, Visitors(server.base_url) as visitors:
        visitors.visit(REQUESTS)
        for kill in range(KILLS):
            with collector_process(port, file):
                visitors.wait_for((kill + 1) * REQUESTS // (KILLS + 1))
        visitors.finish()
        with collector_process(port, file):
            server.terminate()
            shop.drain()

    recorded = _recorded(shop)
    assert len(visitors.answered) == REQUESTS
    assert len(recorded) >= REQUESTS
    assert recorded - set(collected(file)) == set()
    assert shop.spooled() == []


def test_a_collector_that_never_answers_holds_up_no_request_and_no_row(shop: Shop) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as hole:
        _forward(shop, f"http://127.0.0.1:{hole.getsockname()[1]}/v1/traces", timeout=60)
        shop.expected_errors = ("collector",)

        with shop.serve(SERVERS["gunicorn gthread"]) as server:
            for number in range(20):
                answer = httpx.get(f"{server.base_url}/api/products/?n={number}", trust_env=False, timeout=20)
                assert answer.status_code == 200
            arrived = until(lambda: len(shop.recorded()) == 20, timeout=20)
            began = time.monotonic()
            server.terminate()
            took = time.monotonic() - began

    assert arrived
    assert took < 30
    assert len(shop.spooled()) == 1


@pytest.mark.parametrize(("command", "protocol"), [("gunicorn --preload", "grpc"), ("uvicorn", "http/protobuf")])
def test_each_span_goes_out_once(shop: Shop, protocol: str, command: str) -> None:
    with COLLECTORS[protocol]() as collector:
        _forward(shop, collector.endpoint, protocol=protocol)

        with shop.serve(SERVERS[command]) as server:
            for number in range(8):
                httpx.get(f"{server.base_url}/api/products/?n={number}", trust_env=False)
            # What a server that stops is just sending would come again.
            sent = until(lambda: _status(shop)["otlp_stored"] >= 8 and not _status(shop)["otlp_pending"], timeout=30)
            server.terminate()
        shop.drain()

        recorded = _recorded(shop)
        assert sent
        assert len(recorded) >= 8
        assert sorted(collector.ids()) == sorted(recorded)


@pytest.mark.parametrize(
    ("level", "told"),
    [("trace", set()), ("full", set(BESIDE_THE_SPAN))],
)
def test_the_level_says_what_a_collector_gets_and_no_level_has_a_secret(shop: Shop, level: str, told: set[str]) -> None:
    with http_collector() as collector:
        _forward(shop, collector.endpoint, level=level)
        shop.settings["OTEL_AUDIT"]["TRUSTED_PROXIES"] = ["127.0.0.1"]

        with shop.serve(SERVERS["gunicorn gthread"]) as server:
            visit(server.base_url)
            server.terminate()
        shop.drain()

        said = collector.text()
    assert {what for what, text in BESIDE_THE_SPAN.items() if text in said} == told
    assert [what for what, text in SECRETS.items() if text in said] == []
    assert ("audit.registration" in said) is (level != "trace")


def test_a_service_of_its_own_drains_both(shop: Shop) -> None:
    with http_collector() as collector:
        _forward(shop, collector.endpoint)
        shop.settings["OTEL_AUDIT"]["DRAIN"] = "external"
        with shop.serve(SERVERS["gunicorn gthread"]) as server:
            httpx.get(f"{server.base_url}/api/products/?n=1", trust_env=False)
            before = (collector.ids(), shop.recorded())
            with shop.run_beside("otel_audit", "drain", "--watch"):
                arrived = until(lambda: collector.ids() and shop.recorded(), timeout=20)
            server.terminate()

    assert before == ([], {})
    assert arrived
    assert set(collector.ids()) <= _recorded(shop)
