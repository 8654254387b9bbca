"""The demo shop in a directory of its own, and the real servers in front of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

import otel_audit
import otel_audit_exporters
from otel_audit_exporters.segments import segments
from tests.fresh_databases import Databases

__all__ = ["PASSWORD", "SERVERS", "Server", "Shop", "until"]

DEMO = Path(__file__).parents[2] / "demo"
SITE = Path(__file__).parent / "site"
PASSWORD = "grind-8-fine"
LOG = "server.log"
START_S, STOP_S, RUN_S = 30.0, 60.0, 100.0

_GUNICORN = ["-m", "gunicorn", "shop.wsgi", "--bind", "fd://{fd}", "--graceful-timeout", "10"]
# Without a limit, a worker of uvicorn waits for a connection that it accepted while it shut down, as long as the
# client asks on.
_UVICORN = ["-m", "uvicorn", "shop.asgi:application", "--fd", "{fd}", "--no-access-log"]
_UVICORN += ["--timeout-graceful-shutdown", "10"]
SERVERS = {
    "gunicorn sync": [*_GUNICORN, "--worker-class", "sync"],
    "gunicorn gthread": [*_GUNICORN, "--worker-class", "gthread", "--threads", "4"],
    "gunicorn --preload": [*_GUNICORN, "--preload", "--workers", "2", "--threads", "2"],
    "uvicorn": _UVICORN,
    "uvicorn, two workers": [*_UVICORN, "--workers", "2"],
}


class Server:
    """A server that runs: a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], base_url: str) -> None:
        self.process = process
        self.base_url = base_url

    def children(self) -> list[int]:
        """Return the process ids of its children: the workers."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def workers(self) -> list[int]:
        """Return the process ids of those children that serve; Python's resource tracker is another."""
        return [child for child in self.children() if b"resource_tracker" not in _command(child)]

    def terminate(self) -> None:
        """Ask the server to stop, and wait until it has."""
        self.process.terminate()
        self.process.wait(STOP_S)

    def kill_group(self) -> None:
        """Kill the server and all its workers at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S)


class Shop:
    """The demo shop: its files stand in ``directory``, its audit trail in ``databases``."""

    def __init__(self, directory: Path, databases: Databases) -> None:
        self.directory = directory
        self.databases = databases
        self.settings: dict[str, Any] = {"DATABASES": databases.settings}
        self.environment: dict[str, str] = {}
        self.python_path: list[Path] = []
        #: Alarms that a test brings about: the word of each.
        self.expected_errors: tuple[str, ...] = ()

    # ── running it ──────────────────────────────────────────────────────────────────────────────

    def env(self) -> dict[str, str]:
        """Return the environment of every process of the shop; nothing of the suite's own leaks into it."""
        foreign = ("OTEL_", "DJANGO_", "PYTEST_", "SHOP_", "AUDIT_", "STATE_DIRECTORY", "XDG_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        packages = [Path(package.__file__ or "").parents[1] for package in (otel_audit, otel_audit_exporters)]
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(map(str, [*self.python_path, SITE, DEMO, *packages])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": "e2e_settings",
            "HOME": str(self.directory),
            "SHOP_VAR": str(self.directory),
            "SHOP_PASSWORD": PASSWORD,
            "NO_PROXY": "*",
            "E2E_SETTINGS": json.dumps(self.settings),
            **self.environment,
        }

    def run(self, *arguments: str | Path) -> str:
        """Run Python to its end; return what it wrote."""
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.directory,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end; return what it wrote."""
        return self.run("-m", "django", *arguments)

    @contextmanager
    def serve(self, command: Sequence[str], *, program: Sequence[str] = (sys.executable,)) -> Iterator[Server]:
        """Run a server until the end of the block.

        ``{fd}`` in its command becomes a listening socket, which nobody can take in between, ``{port}`` a free port.
        """
        listener = socket.create_server(("127.0.0.1", 0))
        port, fd = listener.getsockname()[1], listener.fileno()
        if not any("{fd}" in word for word in command):
            listener.close()
        with (self.directory / LOG).open("ab") as output, listener:
            process = subprocess.Popen(
                [*program, *(word.format(fd=fd, port=port) for word in command)],
                cwd=self.directory,
                env=self.env(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[fd] if listener.fileno() >= 0 else [],
                start_new_session=True,
            )
        server = Server(process, f"http://127.0.0.1:{port}")
        try:
            self._wait_until_healthy(server)
            yield server
        finally:
            if process.poll() is None:
                server.kill_group()

    @contextmanager
    def run_beside(self, *arguments: str) -> Iterator[None]:
        """Run a management command until the end of the block, where it is asked to stop."""
        with (self.directory / LOG).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "django", *arguments],
                cwd=self.directory,
                env=self.env(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield
            process.terminate()
            assert process.wait(STOP_S) == 0
        finally:
            process.kill()
            process.wait()

    @property
    def log(self) -> str:
        """What the shop's servers have written so far."""
        path = self.directory / LOG
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _wait_until_healthy(self, server: Server) -> None:
        def is_healthy() -> bool:
            if server.process.poll() is not None:
                raise AssertionError(f"The server has ended with status {server.process.returncode}:\n{self.log}")
            try:
                answer = httpx.get(f"{server.base_url}/api/health/", timeout=START_S, trust_env=False)
            except httpx.TransportError:
                return False
            return answer.status_code == 200

        assert until(is_healthy, timeout=START_S), self.log

    # ── its audit trail ─────────────────────────────────────────────────────────────────────────

    def drain(self) -> None:
        """Bring in what the servers have left in the spool."""
        self.manage("otel_audit", "drain")

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Return columns of all rows of one of the five tables, oldest first."""
        return self.databases.query(
            "audit", f"SELECT {', '.join(columns)} FROM otel_audit_{table}auditevent ORDER BY id"
        )

    def recorded(self) -> Counter[str]:
        """Count the rows of requests by their query string, by which `tests.e2e.visitors` numbers them."""
        return Counter(query for (query,) in self.rows("request", "query_params") if query)

    def spooled(self) -> list[Path]:
        """Return the segments that lie in the spool directory."""
        return list(segments(self.directory / "spool"))


def _command(pid: int) -> bytes:
    """Return the command line of a process; it may have ended meanwhile."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def until(condition: Callable[[], Any], *, timeout: float, pause: float = 0.02) -> Any:
    """Wait until ``condition()`` holds, ``timeout`` seconds at most; return what it gave last."""
    deadline = time.monotonic() + timeout
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
    return found


def copy_files(template: Path, directory: Path) -> None:
    """Give a shop the files of one that was set up before."""
    directory.mkdir()
    for name in ("shop.sqlite3", "secret-key"):
        shutil.copy(template / name, directory / name)
