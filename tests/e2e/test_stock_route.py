"""``OTEL_TRACES_EXPORTER=otel_audit opentelemetry-instrument gunicorn …``: rows without a line of code."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

from tests.e2e.otlp_server import http_collector
from tests.e2e.shop import SERVERS, Shop, until
from tests.e2e.visitors import Visitors

pytestmark = pytest.mark.e2e

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def instrumented(shop: Shop, tmp_path: Path) -> None:
    """A shop whose processes find our entry points, also where only the source tree is there."""
    shop.environment |= {
        "OTEL_TRACES_EXPORTER": "otel_audit",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    if not any(found.name == "otel_audit" for found in importlib.metadata.entry_points(group="pytest11")):
        shop.python_path.append(_distribution(tmp_path / "distribution"))


def gunicorn(*more: str) -> tuple[list[str], list[str]]:
    """Return the command that runs gunicorn under ``opentelemetry-instrument``, and the program in front of it."""
    _, _, *arguments = SERVERS["gunicorn gthread"]
    return [str(BIN / "gunicorn"), *arguments, *more], [str(BIN / "opentelemetry-instrument")]


@pytest.mark.parametrize("more", [[], ["--workers", "2"]], ids=["one worker", "two workers"])
def test_requests_become_rows_without_a_middleware(shop: Shop, more: list[str]) -> None:
    shop.settings["MIDDLEWARE"] = False
    command, program = gunicorn(*more)

    with shop.serve(command, program=program) as server, Visitors(server.base_url) as visitors:
        visitors.visit(limit=60)
        visitors.finish()
        server.terminate()
    shop.drain()

    assert len(visitors.answered) >= 60
    visitors.assert_recorded_once(shop)


def test_url_and_query_are_filled_and_redacted(shop: Shop) -> None:
    shop.settings["MIDDLEWARE"] = False
    command, program = gunicorn()

    with shop.serve(command, program=program) as server:
        httpx.get(f"{server.base_url}/api/products/?ordering=price&api_key=5f4dcc3b5aa765d6", trust_env=False)
        server.terminate()
    shop.drain()

    (row,) = [row for row in shop.rows("request", "method", "url", "status_code", "query_params") if row[3]]
    assert row[:3] == ("GET", "/api/products/", 200)
    assert row[3].startswith("ordering=price&api_key=")
    assert "5f4dcc3b5aa765d6" not in row[3]


def test_with_the_middleware_too_each_request_has_the_complete_row(shop: Shop) -> None:
    command, program = gunicorn()

    with shop.serve(command, program=program) as server, Visitors(server.base_url) as visitors:
        for _ in range(10):
            visitors.ask()
        server.terminate()
    shop.drain()

    visitors.assert_recorded_once(shop)
    assert set(shop.rows("request", "actor_name", "route")) == {("anonymous", "api/products/$")}


def test_a_command_records_its_processes(shop: Shop) -> None:
    shop.run(BIN / "opentelemetry-instrument", sys.executable, "-m", "django", "takestock")

    shop.drain()

    assert [name for (name,) in shop.rows("process", "name")] == ["Stock of the shop", "Stock of the storehouse"]
    assert len(shop.rows("registration", "id")) == 2


@pytest.mark.parametrize("middleware", [True, False], ids=["with middleware", "without"])
def test_beside_an_otlp_exporter_each_span_leaves_once(shop: Shop, middleware: bool) -> None:
    shop.settings |= {} if middleware else {"MIDDLEWARE": False}
    with http_collector() as collector:
        shop.environment |= {
            "OTEL_TRACES_EXPORTER": "otel_audit,otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.base_url,
        }
        command, program = gunicorn()

        with shop.serve(command, program=program) as server, Visitors(server.base_url) as visitors:
            for _ in range(10):
                visitors.ask()
            server.terminate()
        shop.drain()

        recorded = set(shop.rows("request", "trace_id", "span_id"))
        assert len(recorded) == 10 + (not middleware)  # it alone leaves out the health view that `serve` asks
        assert until(lambda: set(collector.ids()) >= recorded, timeout=5)
        assert sorted(collector.ids()) == sorted(set(collector.ids()))


def _distribution(directory: Path) -> Path:
    """Write what pip would write for our entry points; return the folder to put on the path."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = directory / f"otel_audit-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: otel-audit\nVersion: {project['version']}\n")
    groups = {name: points for name, points in project["entry-points"].items() if name != "pytest11"}
    lines = [
        line
        for name, points in groups.items()
        for line in [f"[{name}]", *(f"{key} = {value}" for key, value in points.items())]
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return directory
