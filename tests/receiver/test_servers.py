"""Real servers and OpenTelemetry's own exporter: what is acknowledged is stored, once, whoever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_django

import otel_audit
import otel_audit_exporters
from tests.fresh_databases import Databases, fresh_databases

SCRIPTS = Path(__file__).parent / "site"
START_S = 60.0
PROCESS, STEP, REGISTRATION = (f"otel_audit_{name}auditevent" for name in ("process", "step", "registration"))


def until(found: Callable[[], Any], timeout: float = START_S) -> bool:
    """Wait until ``found`` returns something true."""
    deadline = time.monotonic() + timeout
    while not found():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Site:
    """A site that receives, with a token for one service."""

    def __init__(self, directory: Path, databases: Databases, service: str = "till") -> None:
        self.directory = directory
        self.databases = databases
        packages = [Path(package.__file__ or "").parents[1] for package in (otel_audit, otel_audit_exporters)]
        audit = {"DATABASE": "audit", "SPOOL_DIR": str(directory / "spool")}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "DJANGO_", "PYTEST_"))}
        self.environment = {
            **kept,
            "PYTHONPATH": os.pathsep.join(map(str, [SCRIPTS, *packages])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": "receiving_settings",
            "HOME": str(directory),
            "NO_PROXY": "*",
            "RECEIVING_SETTINGS": json.dumps({"DATABASES": databases.settings, "OTEL_AUDIT": audit}),
        }
        self.manage("migrate", "--database", "audit", "--verbosity", "0")
        self.token = self.manage("otel_audit", "token", "create", "--service", service).splitlines()[-1]

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def running(self, listener: socket.socket, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a server until the end of the block, which kills it if it still runs.

        Its listening socket is ours, so that nobody else takes the port while none runs.
        """
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *(word.format(fd=listener.fileno()) for word in command)],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[listener.fileno()],
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(START_S)

    @contextmanager
    def sending(self, listener: socket.socket, count: int) -> Iterator[subprocess.Popen[bytes]]:
        """Run a service that sends ``count`` processes."""
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
        with (self.directory / "sent").open("ab") as sent, (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(SCRIPTS / "sender.py"), endpoint, self.token, str(count)],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=sent,
                stderr=log,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait(START_S)

    def acknowledged(self) -> list[str]:
        """Return the names of the processes that the sender was told to be safe."""
        return (self.directory / "sent").read_text().splitlines()

    def log(self) -> str:
        """Return what everybody wrote."""
        return (self.directory / "log").read_text()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the audit database."""
        return self.databases.query("audit", sql)

    def drained(self) -> dict[str, Any]:
        """Bring in what waits; return the figures."""
        self.manage("otel_audit", "drain")
        found: dict[str, Any] = json.loads(self.manage("otel_audit", "status", "--json"))
        return found


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


RECEIVE = ["-m", "django", "otel_audit", "receive", "--bind", "fd://{fd}"]
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
