"""Real servers whose workers are killed in the middle of requests: each request that began has its row."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_django

from tests.e2e.shop import Server, Shop, until
from tests.fresh_databases import Databases, fresh_databases

SITE = Path(__file__).parent / "site"
_GUNICORN = ["-m", "gunicorn", "mortal_wsgi", "--bind", "fd://{fd}", "--workers", "2", "--graceful-timeout", "5"]
SERVERS = {
    "gunicorn sync": [*_GUNICORN, "--worker-class", "sync"],
    "gunicorn gthread": [*_GUNICORN, "--worker-class", "gthread", "--threads", "4"],
    "uvicorn": ["-m", "uvicorn", "mortal_asgi:application", "--fd", "{fd}", "--no-access-log", "--workers", "2"],
}
DEADLY = ("/leave/", "/kill/", "/stream/", "/static/kill/")
KILLS = int(os.environ.get("OTEL_AUDIT_REQUEST_KILLS", "6"))


class Mortal(Shop):
    """The site, in a directory of its own."""

    def __init__(self, directory: Path, databases: Databases) -> None:
        super().__init__(directory, databases)
        self.audit: dict[str, Any] = {"DRAIN": "external", "SPOOL_DIR": str(self.spool)}

    @property
    def spool(self) -> Path:
        """The spool directory."""
        return self.directory / "spool"

    def env(self) -> dict[str, str]:
        """Return the environment of every process of the site."""
        given = {
            "DATABASES": {"default": self.databases.settings["audit"]},
            "OTEL_AUDIT": self.audit,
            "EFFECTS": str(self.directory / "effects"),
        }
        found = super().env()
        return {
            **found,
            "PYTHONPATH": f"{SITE}{os.pathsep}{found['PYTHONPATH']}",
            "DJANGO_SETTINGS_MODULE": "mortal_settings",
            "MORTAL_SETTINGS": json.dumps(given),
        }

    def _wait_until_healthy(self, server: Server) -> None:
        """Wait for any answer: it may say that the spool is full."""
        assert until(lambda: ask(server, "/api/health/", ""), timeout=20), self.log

    def effects(self) -> list[str]:
        """Return the query strings of the requests that had their effect."""
        path = self.directory / "effects"
        return path.read_text().split() if path.exists() else []

    def status(self) -> dict[str, Any]:
        """Return what ``status --json`` says."""
        found: dict[str, Any] = json.loads(self.manage("otel_audit", "status", "--json"))
        return found

    def outcomes(self) -> dict[str, tuple[int | None, str]]:
        """Return status and outcome of each request by its query string; none has two rows."""
        rows = self.rows("request", "query_params", "status_code", "outcome")
        found = {query: (code, outcome) for query, code, outcome in rows if query}
        assert len(found) == sum(1 for query, *_ in rows if query)
        return found


@pytest.fixture
def site(tmp_path: Path, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Mortal]:
    """A site with an empty audit trail."""
    directory = tmp_path / "site"
    directory.mkdir()
    with fresh_databases(["audit"], directory, django_db_blocker) as databases:
        site = Mortal(directory, databases)
        site.manage("migrate", "--verbosity", "0")
        yield site


def ask(server: Server, path: str, query: str) -> int | None:
    """Send a request; return the status of its answer, None where there was none."""
    with suppress(httpx.TransportError):
        return httpx.get(f"{server.base_url}{path}?{query}", timeout=5, trust_env=False).status_code
    return None


def assert_the_equation_holds(site: Mortal) -> dict[str, Any]:
    """Nothing is pending, quarantined or lost, and each row is counted once."""
    found = site.status()
    rows = len(site.rows("request", "id"))
    assert (found["captured"], found["stored"]) == (rows, rows)
    assert (found["pending"], found["quarantined"], found["lost"]) == (0, 0, 0)
    return found


@pytest.mark.parametrize("intents", ["record", "require"])
@pytest.mark.parametrize("name", SERVERS)
def test_a_request_that_kills_its_worker_leaves_a_row_and_a_finished_one_its_own(
    site: Mortal, name: str, intents: str
) -> None:
    site.audit["INTENTS"] = intents
    with site.serve(SERVERS[name]) as server:
        answers = {}
        for number, path in enumerate(DEADLY):
            answers[f"n={number}-before"] = ask(server, "/order/", f"n={number}-before")
            answers[f"n={number}"] = ask(server, path, f"n={number}")
            answers[f"n={number}-after"] = ask(server, "/order/", f"n={number}-after")
        server.terminate()

    site.drain()

    died = [query for query in site.effects() if "-" not in query]
    finished = [query for query, code in answers.items() if code == 200 and "-" in query]
    outcomes = site.outcomes()
    assert set(site.effects()) <= set(outcomes)
    assert died == [f"n={number}" for number in range(len(DEADLY))]
    assert {outcomes[query] for query in died} == {(None, "unknown")}
    assert {outcomes[query] for query in finished} == {(200, "success")}
    assert len(finished) >= len(DEADLY)
    assert_the_equation_holds(site)


@pytest.mark.parametrize("name", ["gunicorn gthread", "uvicorn"])
def test_no_effect_is_left_without_a_row_by_kills_at_any_moment(site: Mortal, name: str) -> None:
    site.audit["INTENTS"] = "record"
    chance = random.Random(20261124)
    answered: Counter[str] = Counter()
    stop = threading.Event()

    def visit(who: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            query = f"n={who}-{number}"
            if ask(server, "/order/", query) == 200:
                answered[query] += 1

    with site.serve(SERVERS[name]) as server:
        visitors = [threading.Thread(target=visit, args=(who,)) for who in range(4)]
        for visitor in visitors:
            visitor.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.2, 0.5))
            for child in server.children()[-1:]:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        stop.set()
        for visitor in visitors:
            visitor.join()
        server.kill_group()

    site.drain()

    outcomes = site.outcomes()
    assert len(answered) > 20
    assert {outcomes.get(query) for query in answered} == {(200, "success")}
    assert [query for query in site.effects() if query not in outcomes] == []
    assert {found for query, found in outcomes.items() if query not in answered} <= {
        (None, "unknown"),
        (200, "success"),  # the worker was killed between its record and its answer
    }
    assert_the_equation_holds(site)


@pytest.mark.parametrize("name", ["gunicorn gthread", "uvicorn"])
def test_requests_are_refused_while_their_intents_cannot_be_stored(site: Mortal, name: str) -> None:
    site.audit |= {"INTENTS": "require", "SPOOL_MAX_BYTES": 1 << 20}
    site.spool.mkdir(mode=0o700)
    filler = site.spool / "something"
    filler.write_bytes(bytes(1 << 20))
    with site.serve(SERVERS[name]) as server:
        full = [ask(server, "/order/", f"n=full-{number}") for number in range(5)]
        told = site.status()
        filler.unlink()
        after = until(lambda: ask(server, "/order/", "n=after") == 200, timeout=5)
        late = site.status()
        server.terminate()

    site.drain()

    assert (full, after) == ([503] * 5, True)
    assert (told["refused"], told["captured"]) == (5, 0)
    assert site.effects() == ["n=after"]
    assert site.outcomes() == {"n=after": (200, "success")}
    assert assert_the_equation_holds(site)["refused"] == late["refused"] >= 5
