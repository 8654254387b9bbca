"""The spans go to a collector too, once, without what stands beside them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest

from tests.e2e.otlp_server import Collector, grpc_collector, http_collector
from tests.e2e.shop import PASSWORD, SERVERS, Shop, until

pytestmark = pytest.mark.e2e

COLLECTORS = {"http/protobuf": http_collector, "grpc": grpc_collector}
#: What happens in the shop that only the audit trail may know, and what nobody may.
BESIDE_THE_SPAN = {
    "body": "kettle-that-nobody-sells",
    "query": "brass-and-copper",
    "client address": "203.0.113.77",
    "attempted name": "mallory",
    "error message": "division by zero",
}
SECRETS = {
    "wrong password": "letmein-9",
    "password": PASSWORD,
    "secret in the query": "5f4dcc3b5aa765d6",
}
TRAIL_COLUMNS = ("ip_addresses", "query_params", "request_body", "error_message")


@pytest.fixture(autouse=True)
def _quickly(shop: Shop) -> None:
    shop.environment["OTEL_BSP_SCHEDULE_DELAY"] = "50"


@pytest.mark.parametrize("protocol", COLLECTORS)
def test_spans_reach_the_collector_of_the_settings_without_what_stands_beside_them(shop: Shop, protocol: str) -> None:
    collect: Callable[[], AbstractContextManager[Collector]] = COLLECTORS[protocol]
    with collect() as collector:
        shop.settings["OTEL_AUDIT"] = {
            "OTLP": {"endpoint": collector.endpoint, "protocol": protocol},
            "TRUSTED_PROXIES": ["127.0.0.1"],
        }

        with shop.serve(SERVERS["gunicorn gthread"]) as server:
            visit(server.base_url)
            server.terminate()
        shop.drain()

        recorded = shop.rows("request", "trace_id", "span_id") + shop.rows("process", "trace_id", "span_id")
        assert until(lambda: set(collector.ids()) >= set(recorded), timeout=5)
        assert len(collector.ids()) == len(set(collector.ids()))
        told = {**BESIDE_THE_SPAN, **SECRETS}
        assert [what for what, text in told.items() if text in collector.text()] == []
    trail = repr(shop.rows("request", *TRAIL_COLUMNS) + shop.rows("login", "username"))
    assert [what for what, text in BESIDE_THE_SPAN.items() if text not in trail] == []
    assert [what for what, text in SECRETS.items() if text in trail] == []


def test_the_standard_variable_alone_forwards_each_span_once(shop: Shop) -> None:
    with http_collector() as collector:
        shop.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.base_url

        _serve_some_requests(shop, SERVERS["gunicorn --preload"])

        _assert_each_arrived_once(shop, collector)


def test_a_site_that_forwards_itself_has_each_span_once(shop: Shop) -> None:
    with http_collector() as collector:
        shop.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.base_url
        command = ["own_exporter_wsgi" if word == "shop.wsgi" else word for word in SERVERS["gunicorn gthread"]]

        _serve_some_requests(shop, command)

        _assert_each_arrived_once(shop, collector)


@pytest.mark.parametrize("name", ["gunicorn gthread", "gunicorn --preload"])
def test_a_provider_that_a_site_makes_after_the_fork_gets_each_span_once(shop: Shop, name: str) -> None:
    with http_collector() as collector:
        shop.environment["SITE_COLLECTOR"] = collector.endpoint

        _serve_some_requests(shop, [*SERVERS[name], "--config", "python:own_provider_gunicorn"])

        _assert_each_arrived_once(shop, collector)


def test_a_dead_collector_costs_no_request_and_no_row(shop: Shop) -> None:
    shop.settings["OTEL_AUDIT"] = {"OTLP": {"endpoint": "http://127.0.0.1:9/v1/traces", "timeout": 1}}

    _serve_some_requests(shop, SERVERS["gunicorn gthread"])

    assert len(shop.recorded()) == 8


def _serve_some_requests(shop: Shop, command: list[str]) -> None:
    with shop.serve(command) as server:
        for number in range(8):
            assert httpx.get(f"{server.base_url}/api/products/?n={number}", trust_env=False).status_code == 200
        server.terminate()
    shop.drain()


def _assert_each_arrived_once(shop: Shop, collector: Collector) -> None:
    recorded = set(shop.rows("request", "trace_id", "span_id"))

    assert len(recorded) == 8
    assert until(lambda: set(collector.ids()) >= recorded, timeout=5)
    assert sorted(collector.ids()) == sorted(set(collector.ids()))


def visit(base_url: str) -> None:
    """Tell the shop everything of `BESIDE_THE_SPAN` and `SECRETS`."""
    told = {**BESIDE_THE_SPAN, **SECRETS}
    with httpx.Client(
        base_url=base_url, trust_env=False, timeout=30, headers={"X-Forwarded-For": told["client address"]}
    ) as client:
        client.get("/api/products/", params={"search": told["query"], "api_key": told["secret in the query"]})
        client.post("/api/token/", json={"username": told["attempted name"], "password": told["wrong password"]})
        access = client.post("/api/token/", json={"username": "anna", "password": PASSWORD}).json()["access"]
        client.headers["Authorization"] = f"Bearer {access}"
        assert client.post("/api/checkout/", json={"sku": told["body"], "quantity": 1}).status_code == 404
        assert client.post("/api/checkout/", json={"sku": "kettle", "quantity": 1}).status_code == 201
        assert client.post("/api/restock/kettle/").status_code == 200
        assert client.get("/api/crash/").status_code == 500
