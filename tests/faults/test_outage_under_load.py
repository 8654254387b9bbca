"""The audit database goes away, or says nothing more, while a real server is under load: no request is held up.

``OTEL_AUDIT_OUTAGE_REQUESTS``, which ``make faults`` sets to 20,000, is how many requests are served meanwhile. How
long they take is printed (``-rP`` shows it) and held to a limit that even a busy machine keeps.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_django

from tests import engines
from tests.e2e.shop import until
from tests.e2e.visitors import Visitors
from tests.faults.mortal import SERVERS, Mortal, assert_the_equation_holds
from tests.fresh_databases import Databases, sqlite

REQUESTS = int(os.environ.get("OTEL_AUDIT_OUTAGE_REQUESTS", "200"))

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240 + REQUESTS // 10)]


@pytest.fixture(scope="module")
def database_server() -> Iterator[engines.Server]:
    """Return a PostgreSQL server that runs."""
    try:
        with engines.postgresql() as server:
            yield server
    except engines.MissingServer as missing:
        pytest.skip(f"NOT TESTED: {missing}")


@pytest.fixture
def site(tmp_path: Path, database_server: engines.Server, django_db_blocker: pytest_django.DjangoDbBlocker) -> Mortal:
    """Return a site whose audit trail alone lies in that server."""
    audit = {**database_server.database, "NAME": f"outage_{time.monotonic_ns()}"}
    engines.create_database(audit)
    site = Mortal(
        tmp_path, Databases({"default": sqlite(tmp_path / "default.sqlite3"), "audit": audit}, django_db_blocker)
    )
    site.create()
    return site


#: What happens to the server, and how that ends.
FAULTS: dict[str, tuple[Callable[[engines.Server], None], Callable[[engines.Server], None]]] = {
    "stopped": (engines.Server.stop, engines.Server.start),
    "accepts and never answers": (engines.Server.pause, engines.Server.resume),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_requests_are_served_while_the_audit_database_is_away_and_all_rows_arrive_once(
    site: Mortal, database_server: engines.Server, fault: str
) -> None:
    begin, end = FAULTS[fault]
    with site.serve(SERVERS["gunicorn gthread"]) as server, Visitors(server.base_url, pages=["/order/"]) as visitors:
        visitors.visit(limit=1_000_000_000)
        phase(visitors, REQUESTS // 10)  # warms up
        before = phase(visitors, REQUESTS)
        begin(database_server)
        during = phase(visitors, REQUESTS)
        waiting = site.status()["pending"]
        visitors.leave()

        end(database_server)
        came_back = time.monotonic()
        stored = until(lambda: site.recorded().keys() >= visitors.answered, timeout=60 + REQUESTS / 100, pause=0.2)
        taken = time.monotonic() - came_back
        server.terminate()

    print(
        f"{fault}: {REQUESTS} requests before, {described(before)}; {len(during)} during, {described(during)}, "
        f"{p99_ms(during) / p99_ms(before):.2f} x; {waiting} records waited, all were stored {taken:.1f} s after"
    )
    assert stored
    assert waiting >= REQUESTS
    visitors.assert_recorded_once(site)
    assert_the_equation_holds(site)
    assert statistics.median(during) < 3 * statistics.median(before) + 0.05
    assert max(during) < 4  # what waits for the database waits at least five seconds


def phase(visitors: Visitors, answers: int) -> list[float]:
    """Wait for so many more answers; return how long each took, in seconds."""
    first = len(visitors.seconds)
    visitors.wait_for(first + answers, timeout=120 + answers / 10)
    return visitors.seconds[first : first + answers]


def described(seconds: list[float]) -> str:
    """Return in words how long requests took."""
    return f"p50 {1e3 * statistics.median(seconds):.1f} ms, p99 {p99_ms(seconds):.1f} ms"


def p99_ms(seconds: list[float]) -> float:
    """Return what 99 % of ``seconds`` stay below, in milliseconds."""
    return 1e3 * statistics.quantiles(seconds, n=100)[98]
