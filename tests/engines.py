"""Throw-away database servers for the tests: PostgreSQL and MariaDB, started for one command and gone after it.

    python -m tests.engines run postgresql -- pytest tests/exporters

starts the server in a temporary folder, sets ``OTEL_AUDIT_TEST_DATABASE`` for `tests.settings`, runs the command, stops
the server and returns the command's exit status. Where the server's programs are missing it says so and returns 69.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

__all__ = ["ENGINES", "KILL", "MissingServer", "Server", "create_database", "mariadb", "postgresql", "run"]

KILL: Final = signal.SIGKILL

VARIABLE: Final = "OTEL_AUDIT_TEST_DATABASE"
MISSING_STATUS: Final = 69  # none of pytest's own
_START_S: Final = 60.0


class MissingServer(Exception):  # it is no error on a laptop
    """The programs of a database server are not on this machine."""


class Server:
    """A running server: ``database`` is what Django's ``DATABASES`` needs to reach it."""

    def __init__(self, command: Sequence[str], user: str | None, log: Path, database: dict[str, Any]) -> None:
        self.database = database
        self._command = list(command)
        self._user = user
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until the server takes connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, user=self._user, group=_group(self._user)
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(KILL)
                raise RuntimeError(
                    f"{self._command[0]} does not start:\n{self._log.read_text(errors='replace')[-4000:]}"
                )
            time.sleep(0.05)

    def stop(self, how: signal.Signals | None = None) -> None:
        """Stop the server, with the signal ``how``, and wait until it is gone."""
        if how is None:  # PostgreSQL's SIGTERM waits for clients to leave
            how = signal.SIGINT if self.database["ENGINE"].endswith("postgresql") else signal.SIGTERM
        if self._process is not None and self._process.poll() is None:
            children = _children(self.pid)
            self._process.send_signal(how)
            self._process.wait(60)
            if how is signal.SIGKILL:
                _wait_until_gone(children)

    def pause(self) -> None:
        """Let the server accept connections and never answer."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server and its children."""
        for pid in (self.pid, *_children(self.pid)):
            os.kill(pid, number)

    def _answers(self) -> bool:
        try:
            if self.database["ENGINE"].endswith("postgresql"):
                _connect_postgresql(self.database)
            else:
                _connect_mariadb(self.database)
        except Exception:  # any driver's error means: not yet
            return False
        return True


@contextmanager
def postgresql() -> Iterator[Server]:
    """Run a PostgreSQL server of our own.

    Raises:
        MissingServer: its programs are not installed.
    """
    programs = _postgresql_programs()
    user = _unprivileged("postgres")
    with _folder(user) as folder:
        port = _free_port()
        data = folder / "data"
        _check(
            [str(programs / "initdb"), "-D", str(data), "-U", "audit", "-A", "trust", "-E", "UTF8", "--no-sync"], user
        )
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off",
                    "max_connections": 60}  # fmt: skip
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        database = _database("django.db.backends.postgresql", "audit", port)
        server = Server([str(programs / "postgres"), "-D", str(data), *options], user, folder / "log", database)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def mariadb() -> Iterator[Server]:
    """Run a MariaDB server of our own.

    Raises:
        MissingServer: its programs are not installed.
    """
    daemon, install = _program("mariadbd"), _program("mariadb-install-db")
    if importlib.util.find_spec("MySQLdb") is None:
        raise MissingServer("mysqlclient is not here; pip install 'otel-audit[mysql]'.")
    user = _unprivileged("mysql")
    with _folder(user) as folder:
        port = _free_port()
        data = folder / "data"
        common = ["--no-defaults", f"--datadir={data}"]
        _check([install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"], user)
        # Grants are skipped: the server is reachable from this machine alone and lives for one test run.
        options = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}", "--skip-grant-tables",
                   "--skip-networking=0", f"--pid-file={folder / 'pid'}", "--innodb-flush-log-at-trx-commit=2",
                   "--character-set-server=utf8mb4"]  # fmt: skip
        database = _database("django.db.backends.mysql", "root", port)
        server = Server([daemon, *common, *options], user, folder / "log", database)
        server.start()
        try:
            yield server
        finally:
            server.stop()


ENGINES: Final[dict[str, Callable[[], AbstractContextManager[Server | None]]]] = {
    "sqlite": lambda: nullcontext(None),
    "postgresql": postgresql,
    "mariadb": mariadb,
}


def run(engine: str, command: Sequence[str]) -> int:
    """Run ``command`` against a server of ``engine``; return its exit status, 69 when there is no such server."""
    environment = dict(os.environ)
    environment.pop(VARIABLE, None)
    try:
        with ENGINES[engine]() as server:
            if server is not None:
                environment[VARIABLE] = json.dumps(server.database)
            return subprocess.run(command, env=environment, check=False).returncode
    except MissingServer as missing:
        print(f"!!! NOT TESTED ON {engine.upper()}: {missing} !!!", file=sys.stderr, flush=True)
        return MISSING_STATUS


def create_database(database: dict[str, Any]) -> None:
    """Create the empty database that ``database`` names."""
    if database["ENGINE"].endswith("postgresql"):
        import psycopg

        with psycopg.connect(_postgresql_address(database), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database['NAME']}")
    else:
        import MySQLdb

        connection = MySQLdb.connect(host=database["HOST"], port=int(database["PORT"]), user=database["USER"])
        connection.cursor().execute(f"CREATE DATABASE {database['NAME']} CHARACTER SET utf8mb4")
        connection.close()


def _database(engine: str, user: str, port: int) -> dict[str, Any]:
    return {
        "ENGINE": engine,
        "NAME": "otel_audit",
        "USER": user,
        "PASSWORD": "",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }


def _connect_postgresql(database: dict[str, Any]) -> None:
    import psycopg

    psycopg.connect(_postgresql_address(database)).close()


def _postgresql_address(database: dict[str, Any]) -> str:
    return f"host={database['HOST']} port={database['PORT']} user={database['USER']} dbname=postgres connect_timeout=2"


def _connect_mariadb(database: dict[str, Any]) -> None:
    import MySQLdb

    MySQLdb.connect(host=database["HOST"], port=int(database["PORT"]), user=database["USER"], connect_timeout=2).close()


def _postgresql_programs() -> Path:
    if found := shutil.which("pg_config"):
        named = Path(subprocess.run([found, "--bindir"], check=True, capture_output=True, text=True).stdout.strip())
        if (named / "initdb").exists():
            return named
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if packaged:
        return packaged[-1].parent
    raise MissingServer("PostgreSQL's initdb is not here; apt-get install postgresql.")


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise MissingServer(f"{name} is not here; apt-get install mariadb-server.")
    return found


def _unprivileged(preferred: str) -> str | None:
    """Return the user that the server runs as: none but root has to change it, as both refuse to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return preferred if preferred in known else "nobody"


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid


@contextmanager
def _folder(user: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="otel-audit-engine-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        yield folder


def _check(command: Sequence[str], user: str | None) -> None:
    done = subprocess.run(
        command, user=user, group=_group(user), cwd="/", check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout.decode(errors='replace')[-4000:]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_until_gone(pids: Sequence[int]) -> None:
    """PostgreSQL's server processes notice by themselves that their parent is dead, before it may start again."""
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in found.split()]


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.engines", description="Run a command with a database server."
    )
    parser.add_argument("verb", choices=["run"])
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    told = parser.parse_args()
    command = told.command[1:] if told.command[:1] == ["--"] else told.command
    if not command:
        parser.error("name the command to run behind --")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the server is stopped too
    return run(told.engine, command)


if __name__ == "__main__":
    sys.exit(_main())
