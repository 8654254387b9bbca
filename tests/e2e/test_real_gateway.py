"""In from a real Collector: rows equal to those written directly, none missing and none twice, whoever is killed."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_django
from django.apps import apps
from django.db.models import JSONField

from otel_audit_exporters.segments import segments
from tests.e2e.engines.running import Collector, JaegerQuery, collector, jaeger, listening, reachable
from tests.e2e.shop import SERVERS, Shop, until
from tests.e2e.test_forwarding import BESIDE_THE_SPAN, SECRETS, visit
from tests.e2e.visitors import Visitors
from tests.fresh_databases import Databases, fresh_databases
from tests.receiver.serving import RECEIVE, Site
from tests.receiver.test_round_trip import PROVENANCE

pytestmark = [pytest.mark.e2e, pytest.mark.engines, pytest.mark.timeout(300)]

KILLS = 10
#: A segment without a record is shorter, one record alone longer.
OPENING_BYTES = 600
ARRIVES_S = 60.0
#: Durations are by the monotonic clock where the record was made, by the span's times where it is received.
OF_THE_WAY = {*PROVENANCE, "response_time", "duration_ms"}
#: What is left of a pause that grows to half a minute is too long for a test.
QUICKLY = "exporters: {otlp_http/audit: {retry_on_failure: {max_interval: 1s}}}"


@pytest.fixture
def site(tmp_path: Path, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Site]:
    """A site that receives what the shop sends, with databases of its own."""
    directory = tmp_path / "receiver"
    with fresh_databases(["default", "audit"], directory, django_db_blocker) as databases:
        yield Site(directory, databases, "shop")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that listens, whether a receiver runs or not."""
    with listening() as open_socket:
        yield open_socket


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JaegerQuery]:
    """A Jaeger that has stored nothing yet."""
    with jaeger(tmp_path) as running:
        yield running


def test_rows_behind_a_gateway_are_those_written_directly_also_when_everything_comes_again(
    shop: Shop, site: Site, listener: socket.socket, store: JaegerQuery, tmp_path: Path
) -> None:
    with site.running(listener, RECEIVE), _gateway(shop, site, listener, store, tmp_path):
        with shop.serve(SERVERS["gunicorn gthread"]) as server:
            visit(server.base_url)
            server.terminate()
        shop.drain()
        direct = _rows(shop.databases)
        assert until(lambda: _rows(site.databases).keys() >= direct.keys(), timeout=ARRIVES_S)
        archived = until(lambda: _whole(tmp_path / "archive.jsonl", direct), timeout=ARRIVES_S)
        for line in archived:
            assert _send_again(site, listener, line) == 200

    counts = site.drained()

    assert (counts["lost"], counts["quarantined"], counts["pending"]) == (0, 0, 0)
    received = _rows(site.databases)
    assert _differences(received, direct) == []
    assert {model for model, _id in received} == {"request", "login", "process", "step", "registration"}


def test_a_gateway_tells_jaeger_less_than_the_receiver_and_nobody_a_secret(
    shop: Shop, site: Site, listener: socket.socket, store: JaegerQuery, tmp_path: Path
) -> None:
    with _gateway(shop, site, listener, store, tmp_path):
        with shop.serve(SERVERS["gunicorn gthread"]) as server:
            visit(server.base_url)
            server.terminate()
        shop.drain()
        spans = {span for table in ("request", "process", "step") for span in shop.rows(table, "trace_id", "span_id")}
        assert until(lambda: store.ids("shop").keys() >= spans, timeout=ARRIVES_S)
        in_jaeger = "".join(store.text(trace) for trace in {trace for trace, _span in spans})
        rows = _rows(shop.databases)
        archived = "".join(until(lambda: _whole(tmp_path / "archive.jsonl", rows), timeout=ARRIVES_S))

    assert [what for what, text in BESIDE_THE_SPAN.items() if text in in_jaeger] == []
    assert [what for what, text in BESIDE_THE_SPAN.items() if text not in archived] == []
    assert [what for what, text in SECRETS.items() if text in in_jaeger + archived] == []


def test_a_receiver_behind_a_gateway_that_is_killed_again_and_again_misses_and_doubles_nothing(
    shop: Shop, site: Site, listener: socket.socket, store: JaegerQuery, tmp_path: Path
) -> None:
    chance = random.Random(5)

    with _gateway(shop, site, listener, store, tmp_path):
        with shop.serve(SERVERS["gunicorn gthread"]) as server, Visitors(server.base_url) as visitors:
            for _kill in range(KILLS):
                with site.running(listener, RECEIVE):
                    earlier = segments(site.directory / "spool")
                    for _request in range(10):
                        visitors.ask()
                    assert until(lambda earlier=earlier: _has_received(site, earlier), timeout=ARRIVES_S), site.log()
                    time.sleep(chance.uniform(0, 0.05))
            server.terminate()
        shop.drain()
        direct = _rows(shop.databases)
        with site.running(listener, RECEIVE):
            arrived = until(lambda: _rows(site.databases).keys() >= direct.keys(), timeout=ARRIVES_S)

    counts = site.drained()

    assert arrived
    assert len(direct) == len(visitors.answered) == 10 * KILLS
    assert (counts["lost"], counts["quarantined"], counts["pending"]) == (0, 0, 0)
    assert _differences(_rows(site.databases), direct) == []


@contextmanager
def _gateway(shop: Shop, site: Site, listener: socket.socket, store: JaegerQuery, folder: Path) -> Iterator[Collector]:
    """Run a gateway between the shop and whoever listens."""
    environment = {
        "JAEGER_OTLP_ENDPOINT": store.otlp,
        "AUDIT_ENDPOINT": reachable(listener),
        "AUDIT_SERVICE": "shop",
        "AUDIT_TOKEN": site.token,
        "ARCHIVE_FILE": str(folder / "archive.jsonl"),
    }
    with collector("gateway.yaml", folder, environment, QUICKLY) as running:
        shop.settings["OTEL_AUDIT"] = {
            "OTLP": {"endpoint": running.endpoint, "durable": True, "level": "full"},
            "TRUSTED_PROXIES": ["127.0.0.1"],
        }
        yield running


def _rows(databases: Databases) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what all rows of the trail say, by model and id; a row that is there twice would be an error."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for model in apps.get_app_config("otel_audit").get_models():
        fields = [field for field in model._meta.concrete_fields if field.name not in OF_THE_WAY]
        columns = ", ".join(f'"{field.column}"' for field in fields)
        for row in databases.query("audit", f"SELECT {columns} FROM {model._meta.db_table}"):
            values = {
                field.column: JSONField().from_db_value(value, None, None)  # type: ignore[arg-type]
                if isinstance(field, JSONField) and isinstance(value, str)
                else value
                for field, value in zip(fields, row, strict=True)
            }
            key = (model.__name__.removesuffix("AuditEvent").lower(), str(values["id"]))
            assert key not in found
            found[key] = values
    return found


def _differences(received: dict[tuple[str, str], Any], direct: dict[tuple[str, str], Any]) -> list[Any]:
    """Return what a row says on one side and not on the other, and rows that are on one side alone."""
    found: list[Any] = sorted(received.keys() ^ direct.keys())
    for key in received.keys() & direct.keys():
        ours, theirs = received[key], direct[key]
        found += [(key, name, ours[name], theirs[name]) for name in theirs if ours[name] != theirs[name]]
    return found


def _whole(archive: Path, rows: dict[tuple[str, str], Any]) -> list[str]:
    """Return the lines of the archive once they have all that became ``rows``."""
    text = archive.read_text(encoding="utf-8") if archive.exists() else ""
    whole = all(str(UUID(identity)) in text for _model, identity in rows)
    return text.splitlines() if whole and text.endswith("\n") else []


def _send_again(site: Site, listener: socket.socket, line: str) -> int:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {site.token}"}
    endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
    return httpx.post(endpoint, content=line, headers=headers, trust_env=False, timeout=30).status_code


def _has_received(site: Site, earlier: list[Path]) -> bool:
    """Say whether a receiver that began after ``earlier`` were there has more in its segment than the opening."""
    new = [segment for segment in segments(site.directory / "spool") if segment not in earlier]
    return any(segment.stat().st_size > OPENING_BYTES for segment in new)
