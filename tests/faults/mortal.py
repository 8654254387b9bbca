"""A small site that dies: real servers in front of views that have an effect of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.shop import Server, Shop, until
from tests.fresh_databases import Databases

__all__ = ["SERVERS", "Mortal", "ask", "assert_the_equation_holds"]

SITE = Path(__file__).parent / "site"
_GUNICORN = ["-m", "gunicorn", "mortal_wsgi", "--bind", "fd://{fd}", "--graceful-timeout", "5", "--workers", "2"]
_UVICORN = ["-m", "uvicorn", "mortal_asgi:application", "--fd", "{fd}", "--no-access-log"]
_UVICORN += ["--timeout-graceful-shutdown", "5"]
SERVERS = {
    "gunicorn sync": [*_GUNICORN, "--worker-class", "sync"],
    "gunicorn gthread": [*_GUNICORN, "--worker-class", "gthread", "--threads", "4"],
    "gunicorn --preload": [*_GUNICORN, "--preload", "--threads", "4"],
    "gunicorn gevent": [*_GUNICORN, "--worker-class", "gevent"],
    "uvicorn": _UVICORN,
    "uvicorn, two workers": [*_UVICORN, "--workers", "2"],
}


class Mortal(Shop):
    """The site, in a directory of its own; its effects are rows of its own database, ``default``."""

    def __init__(self, directory: Path, databases: Databases) -> None:
        super().__init__(directory, databases)
        self.audit: dict[str, Any] = {"DATABASE": "audit", "SPOOL_DIR": str(self.spool)}

    @property
    def spool(self) -> Path:
        """The spool directory."""
        return self.directory / "spool"

    def create(self, template: Path | None = None) -> None:
        """Create the tables, or copy those of a site that was created before, where the databases are files."""
        files = {alias: Path(database["NAME"]) for alias, database in self.databases.settings.items()}
        if template is not None and (template / files["audit"].name).exists():
            for path in files.values():
                shutil.copy(template / path.name, path)
            return
        self.manage("migrate", "--database", "audit", "--verbosity", "0")
        self.databases.query("default", "CREATE TABLE purchase (query VARCHAR(100) NOT NULL)")

    def env(self) -> dict[str, str]:
        """Return the environment of every process of the site."""
        given = {"DATABASES": self.databases.settings, "OTEL_AUDIT": self.audit}
        found = super().env()
        return {
            **found,
            "PYTHONPATH": f"{SITE}{os.pathsep}{found['PYTHONPATH']}",
            "DJANGO_SETTINGS_MODULE": "mortal_settings",
            "MORTAL_SETTINGS": json.dumps(given),
        }

    def _wait_until_healthy(self, server: Server) -> None:
        """Wait for any answer: it may say that the spool is full."""
        assert until(lambda: ask(server, "/api/health/", ""), timeout=30), self.log

    @contextmanager
    def watching_drain(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``drain --watch`` beside the server until the end of the block, then tell it to stop."""
        with (self.directory / "drain.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "django", "otel_audit", "drain", "--watch"],
                cwd=self.directory,
                env=self.env(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield process
            process.terminate()
            process.wait(30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(30)

    def effects(self) -> list[str]:
        """Return the query strings of the requests that had their effect."""
        return [query for (query,) in self.databases.query("default", "SELECT query FROM purchase")]

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
