"""Out to a real Collector: into a real Jaeger and into a file, nothing missing although the Collector is killed."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.engines.running import CONFIGS, Collector, JaegerQuery, collector, jaeger, validate
from tests.e2e.shop import PASSWORD, SERVERS, Shop, until
from tests.e2e.test_forwarding import BESIDE_THE_SPAN, SECRETS, visit
from tests.e2e.visitors import Visitors

pytestmark = [pytest.mark.e2e, pytest.mark.engines, pytest.mark.timeout(300)]

KILLS = 10
REQUESTS = 330
ARRIVES_S = 60.0
_SPANS = ("request", "process", "step")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JaegerQuery]:
    """A Jaeger that has stored nothing yet."""
    with jaeger(tmp_path) as running:
        yield running


@pytest.fixture
def agent(tmp_path: Path, store: JaegerQuery) -> Iterator[Collector]:
    """A Collector in front of that Jaeger."""
    with collector("agent.yaml", tmp_path, {"JAEGER_OTLP_ENDPOINT": store.otlp}) as running:
        yield running


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_collector_itself_accepts_each_file_without_a_warning(path: Path) -> None:
    checked: subprocess.CompletedProcess[str] = validate(path)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize("durable", [False, True], ids=["best effort", "durable"])
def test_a_trace_in_jaeger_has_all_spans_with_their_parents_and_no_secret(
    shop: Shop, agent: Collector, store: JaegerQuery, durable: bool
) -> None:
    shop.settings["OTEL_AUDIT"] = {
        "OTLP": {"endpoint": agent.endpoint, "durable": durable},
        "TRUSTED_PROXIES": ["127.0.0.1"],
    }

    with shop.serve(SERVERS["gunicorn gthread"]) as server:
        visit(server.base_url)
        server.terminate()
    shop.drain()

    recorded = _recorded(shop)
    traces = sorted({trace for trace, _span in recorded})
    assert until(lambda: _parents(store, traces).keys() >= recorded.keys(), timeout=ARRIVES_S)
    assert _parents(store, traces) == recorded
    assert len(recorded) > len(traces) > 1
    said = "".join(store.text(trace) for trace in traces)
    assert [what for what, text in {**BESIDE_THE_SPAN, **SECRETS}.items() if text in said] == []


def test_a_row_in_the_admin_links_to_its_trace_in_jaeger(shop: Shop, agent: Collector, store: JaegerQuery) -> None:
    shop.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": agent.endpoint.removesuffix("/v1/traces")}
    shop.environment |= {"OTEL_BSP_SCHEDULE_DELAY": "50"}
    shop.settings["OTEL_AUDIT"] = {"TRACE_URL": f"{store.url}/trace/{{trace_id}}?uiFind={{span_id}}"}

    with shop.serve(SERVERS["gunicorn gthread"]) as server:
        visit(server.base_url)
        assert until(lambda: shop.rows("process", "id"), timeout=ARRIVES_S)
        page = _as_auditor(server.base_url, "/admin/otel_audit/processauditevent/")
        server.terminate()

    linked = re.findall(rf'href="{re.escape(store.url)}/trace/(\w{{32}})\?uiFind=(\w{{16}})"', page)
    assert sorted(linked) == sorted(shop.rows("process", "trace_id", "span_id"))
    for trace, span in linked:
        assert until(lambda span=span, trace=trace: span in {found["spanID"] for found in store.trace(trace)},
                     timeout=ARRIVES_S)  # fmt: skip
        assert httpx.get(f"{store.url}/trace/{trace}?uiFind={span}", trust_env=False).status_code == 200


def test_nothing_is_missing_in_jaeger_when_the_collector_is_killed_again_and_again(
    shop: Shop, agent: Collector, store: JaegerQuery
) -> None:
    shop.settings["OTEL_AUDIT"] = {"OTLP": {"endpoint": agent.endpoint, "durable": True, "timeout": 5}}
    shop.expected_errors = ("collector",)
    chance = random.Random(11)

    with shop.serve(SERVERS["gunicorn --preload"]) as server, Visitors(server.base_url) as visitors:
        visitors.visit(REQUESTS)
        for kill in range(KILLS):
            visitors.wait_for(kill * REQUESTS // KILLS + chance.randint(1, REQUESTS // KILLS - 1))
            agent.kill()
            agent.start()
        visitors.finish()
        server.terminate()
    shop.drain()

    recorded = _recorded(shop).keys()
    assert len(visitors.answered) == REQUESTS
    assert len(recorded) >= REQUESTS
    assert until(lambda: recorded <= store.ids("shop").keys(), timeout=ARRIVES_S), recorded - store.ids("shop").keys()
    assert shop.spooled() == []


def test_a_file_has_each_span_once_and_goes_on_when_the_collector_starts_again(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"

    with collector("to-file.yaml", tmp_path, {"TRACES_FILE": str(file)}) as running:
        shop.settings["OTEL_AUDIT"] = {"OTLP": {"endpoint": running.endpoint, "durable": True}}
        _ask(shop)
        running.stop()
        before = _ids_in(file)
        running.start()
        _ask(shop)
        running.stop()

    recorded = _recorded(shop)
    assert 0 < len(before) < len(recorded)
    assert sorted(_ids_in(file)) == sorted(recorded)


def _ask(shop: Shop) -> None:
    with shop.serve(SERVERS["gunicorn gthread"]) as server:
        for number in range(4):
            assert httpx.get(f"{server.base_url}/api/products/?n={number}", trust_env=False).status_code == 200
        server.terminate()
    shop.drain()


def _recorded(shop: Shop) -> dict[tuple[str, str], str]:
    """Return the parent's span id for trace id and span id of every row that is a span."""
    rows = [row for table in _SPANS for row in shop.rows(table, "trace_id", "span_id", "parent_span_id")]
    return {(trace, span): parent for trace, span, parent in rows}


def _parents(store: JaegerQuery, traces: list[str]) -> dict[tuple[str, str], str]:
    """Return what `_recorded` does, as Jaeger has it."""
    found: dict[tuple[str, str], str] = {}
    for trace in traces:
        for span in store.trace(trace):
            references: list[dict[str, Any]] = span["references"]
            found[trace, span["spanID"]] = "".join(reference["spanID"] for reference in references)
    return found


def _as_auditor(base_url: str, path: str) -> str:
    with httpx.Client(base_url=base_url, trust_env=False, timeout=30, follow_redirects=True) as client:
        client.get("/admin/login/")
        form = {"username": "auditor", "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        client.post("/admin/login/", data=form)
        return client.get(path).text


def _ids_in(file: Path) -> list[tuple[str, str]]:
    requests = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        (span["traceId"], span["spanId"])
        for request in requests
        for spans in request["resourceSpans"]
        for scope in spans["scopeSpans"]
        for span in scope["spans"]
    ]
