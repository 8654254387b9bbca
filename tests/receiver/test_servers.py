"""Real servers and OpenTelemetry's own exporter: what is acknowledged is stored, once, whoever is killed."""

from __future__ import annotations

import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_django

from tests.fresh_databases import fresh_databases

from .serving import PROCESS, RECEIVE, REGISTRATION, START_S, STEP, Site, until


@pytest.fixture
def site(tmp_path: Path, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Site]:
    """A site with databases of its own."""
    with fresh_databases(["default", "audit"], tmp_path, django_db_blocker) as databases:
        yield Site(tmp_path, databases)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that listens, whether a server runs or not."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


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
    count, kills, chance = 300, 5, random.Random(7)
    with site.sending(listener, count) as sender:
        for _ in range(kills):
            enough = len(site.acknowledged()) + chance.randint(1, 40)
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
