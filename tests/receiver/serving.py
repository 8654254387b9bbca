"""A site of its own that receives, its servers, and a service with OpenTelemetry alone that sends to them."""

from __future__ import annotations

import json
import os
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

import otel_audit
import otel_audit_exporters
from tests.fresh_databases import Databases

__all__ = ["PROCESS", "RECEIVE", "REGISTRATION", "SECRET", "START_S", "STEP", "Site", "endpoint", "listener", "until"]

#: By which the receiving site and the shop know each other.
SECRET = "a-secret-of-receiver-and-shop"
SCRIPTS = Path(__file__).parent / "site"
START_S = 60.0
RECEIVE = ["-m", "django", "otel_audit", "receive", "--bind", "fd://{fd}"]
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
        audit = {
            "DATABASE": "audit",
            "SPOOL_DIR": str(directory / "spool"),
            "TRUSTED_PEERS": ["127.0.0.1", {"secret": SECRET}],
            "TRUSTED_PROXIES": ["203.0.113.9"],
            "RECEIVER_CERTIFICATE_HEADER": "X-Client-Certificate",
        }
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

    def shop(self, secret: str = SECRET) -> dict[str, str]:
        """Return the environment of another site, with a key and a spool of its own."""
        audit = {
            "DATABASE": "audit",
            "SPOOL_DIR": str(self.directory / "shop"),
            "SERVICE_NAME": "shop",
            "TRUSTED_PEERS": [{"secret": secret}],
        }
        given = {"DATABASES": self.databases.settings, "OTEL_AUDIT": audit, "SECRET_KEY": "the-key-of-the-shop" * 3}
        return {**self.environment, "RECEIVING_SETTINGS": json.dumps(given)}

    def order(self, *arguments: str) -> str:
        """Have the shop begin a process; return what it says."""
        return self._run(self.shop(), str(SCRIPTS / "order.py"), *arguments)

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end."""
        return self._run(self.environment, "-m", "django", *arguments)

    def _run(self, environment: dict[str, str], *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def running(
        self, listener: socket.socket | None, command: list[str], environment: dict[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a server, of this site or in another environment, until the end of the block, which kills it if it runs.

        Its listening socket, if it has one, is ours, so that nobody else takes the port while none runs.
        """
        fds = [] if listener is None else [listener.fileno()]
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *(word.format(fd=fds[0]) if fds else word for word in command)],
                cwd=self.directory,
                env=environment or self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=fds,
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(START_S)

    @contextmanager
    def sending(self, to: socket.socket | str, count: int) -> Iterator[subprocess.Popen[bytes]]:
        """Run a service that sends ``count`` processes, to the receiver behind a socket or to a URL."""
        url = to if isinstance(to, str) else endpoint(to)
        with (self.directory / "sent").open("ab") as sent, (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(SCRIPTS / "sender.py"), url, self.token, str(count)],
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

    def stopped(self, server: subprocess.Popen[bytes]) -> None:
        """Have a server end by itself, and see that it did."""
        server.send_signal(signal.SIGTERM)
        assert server.wait(START_S) == 0, self.log()

    def drained(self) -> dict[str, Any]:
        """Bring in what waits; return the figures."""
        self.manage("otel_audit", "drain")
        found: dict[str, Any] = json.loads(self.manage("otel_audit", "status", "--json"))
        return found


def endpoint(listener: socket.socket) -> str:
    """Return where the receiver behind ``listener`` takes spans."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that listens, whether a server runs or not."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening
