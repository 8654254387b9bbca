"""The audit database or the collector goes away, or says nothing more, under load: no request is held up.

``OTEL_AUDIT_OUTAGE_REQUESTS``, which ``make faults`` sets to 20,000, is how many requests are served meanwhile. How
long they take is printed (``-rP`` shows it) and held to a limit that even a busy machine keeps.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_django

from tests import engines
from tests.e2e.collecting import collected, collector_process
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
    assert_nobody_was_held_up(before, during)


@pytest.mark.parametrize("durable", [True, False])
def test_requests_are_served_and_stored_while_the_collector_accepts_and_never_answers(
    site: Mortal, tmp_path: Path, durable: bool
) -> None:
    site.environment["OTEL_BSP_SCHEDULE_DELAY"] = "50"  # so that something is sent in the short form, too
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    site.audit["OTLP"] = {"endpoint": f"http://127.0.0.1:{port}/v1/traces", "durable": durable}
    site.expected_errors = ("collector",)
    file = tmp_path / "collected"
    with (
        collector_process(port, file) as collector,
        site.serve(SERVERS["gunicorn gthread"]) as server,
        Visitors(server.base_url, pages=["/order/"]) as visitors,
    ):
        visitors.visit(limit=1_000_000_000)
        phase(visitors, REQUESTS // 10)  # warms up
        before = phase(visitors, REQUESTS)
        until(lambda: collected(file), timeout=20)
        collector.send_signal(signal.SIGSTOP)
        has_answered = len(collected(file))
        during = phase(visitors, REQUESTS)
        visitors.leave()
        stored = until(lambda: site.recorded().keys() >= visitors.answered, timeout=60 + REQUESTS / 100, pause=0.2)
        found = site.status()
        meanwhile = len(collected(file)) - has_answered

        collector.send_signal(signal.SIGCONT)
        if durable:
            arrived = until(lambda: site.status()["otlp_pending"] == 0, timeout=60 + REQUESTS / 100, pause=0.2)
        server.terminate()

    print(
        f"collector silent, durable {durable}: {REQUESTS} requests before, {described(before)}; {len(during)} during, "
        f"{described(during)}, {p99_ms(during) / p99_ms(before):.2f} x"
    )
    assert has_answered
    assert meanwhile == 0
    assert stored
    visitors.assert_recorded_once(site)
    assert found["pending"] == 0
    assert_nobody_was_held_up(before, during)
    if durable:
        assert found["otlp_pending"] >= REQUESTS
        assert arrived
        assert set(site.rows("request", "trace_id", "span_id")) <= set(collected(file))


def assert_nobody_was_held_up(before: list[float], during: list[float]) -> None:
    """Requests take what they took; who waits for a database or collector waits at least five seconds."""
    assert statistics.median(during) < 3 * statistics.median(before) + 0.05
    assert max(during) < 4


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
