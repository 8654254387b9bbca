"""Environments that switch OpenTelemetry off switch no record off, and what a crash takes back is recorded."""

from __future__ import annotations

import pytest

from tests.fresh_databases import Databases

from .conftest import POLICY, People
from .sites import DOORS, Audited, Site, http, send

OFF = {
    "OTEL_SDK_DISABLED": "true",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_PYTHON_DJANGO_EXCLUDED_URLS": ".*",
}


@pytest.mark.parametrize("door", DOORS)
def test_tracing_that_is_switched_off_switches_no_record_off(
    hostile_databases: Databases, people: People, tmp_path_factory: pytest.TempPathFactory, door: str
) -> None:
    aliases = {"default": "default", "audit": f"evaded_{door}"}
    site = Site(tmp_path_factory.mktemp("evaded"), hostile_databases, aliases, {"POLICY": POLICY})
    site.environment = {**OFF, "HOSTILE_INSTRUMENTED": "1"}  # behind the ASGI door
    data = http("POST", "/data/", "Content-Type: application/json", body=b'{"a": 1}')
    with site.serve(DOORS[door]) as server:
        audited = Audited(door, site, server, server)

        answers = [send(server, raw).status for raw in (data, http("GET", "/crash/silent/"), http("GET", "/flood/"))]

        rows = audited.new_rows()
    assert answers == [200, 500, 200]
    assert [(row["url"], row["status_code"]) for row in rows] == [
        ("/data/", 200),
        ("/crash/silent/", 500),
        ("/flood/", 200),
    ]
    assert [len(site.rows(table, "id")) for table in ("process", "step", "registration")] == [1, 1, 1]
