"""The small site under real servers, raw bytes to send to it, and the rows that it writes."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.shop import Server, Shop, until
from tests.fresh_databases import Databases

__all__ = ["DOORS", "Answer", "Audited", "Site", "http", "send"]

SITE = Path(__file__).parent / "site"
SECRET_KEY = "a-key-for-hostile-tests-that-is-long-enough"
TIMEOUT_S = 20.0
DOORS = {
    "wsgi": ["-m", "gunicorn", "hostile_wsgi", "--bind", "fd://{fd}", "--worker-class", "gthread", "--threads", "3",
             "--limit-request-line", "0", "--limit-request-field_size", "100000", "--permit-unconventional-http-method",
             "--graceful-timeout", "5"],
    "asgi": ["-m", "uvicorn", "hostile_asgi:application", "--fd", "{fd}", "--no-access-log", "--no-proxy-headers",
             "--h11-max-incomplete-event-size", "1000000"],
}  # fmt: skip
COLUMNS = (
    "id", "method", "url", "route", "query_params", "status_code", "outcome", "ip_addresses", "user_agent",
    "actor_name", "request_body", "request_size", "response_body", "error_type", "error_message", "changed_fields",
    "extra_informations", "trace_id", "parent_span_id",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came back: the status line, the headers in order without ``Date``, and the bytes behind them."""

    status_line: bytes
    headers: tuple[bytes, ...]
    body: bytes

    @property
    def status(self) -> int:
        """The status code, 0 where the server cut the connection."""
        parts = self.status_line.split()
        return int(parts[1]) if len(parts) > 1 else 0


class Site(Shop):
    """The site in a directory of its own; ``audit`` are its settings of ours, None for the site without us."""

    def __init__(self, directory: Path, databases: Databases, aliases: dict[str, str], audit: Any) -> None:
        super().__init__(directory, databases)
        directory.mkdir(exist_ok=True)
        self.settings = {
            "SECRET_KEY": SECRET_KEY,
            "LOG": str(directory / "ours.log"),
            "DATABASES": {alias: databases.settings[name] for alias, name in aliases.items()},
        }
        if audit is not None:
            self.settings["OTEL_AUDIT"] = {"DATABASE": "audit", "SPOOL_DIR": str(directory / "spool"), **audit}
        self.audit_alias = aliases.get("audit", "")

    def env(self) -> dict[str, str]:
        """Return the environment of every process of the site."""
        return {
            **super().env(),
            "PYTHONPATH": f"{SITE}:{super().env()['PYTHONPATH']}",
            "DJANGO_SETTINGS_MODULE": "hostile_settings",
            "HOSTILE_SETTINGS": json.dumps(self.settings),
        }

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Return columns of all rows of one of the five tables, oldest first."""
        return self.databases.query(
            self.audit_alias, f"SELECT {', '.join(columns)} FROM otel_audit_{table}auditevent ORDER BY id"
        )

    @property
    def own_log(self) -> str:
        """What our loggers have written."""
        path = self.directory / "ours.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


class Audited:
    """A door of the site with the audit trail, beside the same door without."""

    def __init__(self, name: str, site: Site, server: Server, bare: Server) -> None:
        self.name = name
        self.site = site
        self.server = server
        self.bare = bare
        self._seen: set[str] = set()

    def new_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the requests since the last look, when all are stored."""
        # Another thread may spool a record, as of a stream whose client has left, while the flush counts what is left.
        assert until(self._is_stored, timeout=30), self.site.log[-3000:]
        ids = [str(key) for (key,) in self.site.rows("request", "id")]
        fresh = [key for key in ids if key not in self._seen]
        self._seen.update(fresh)
        return [self._row(key) for key in fresh]

    def _is_stored(self) -> bool:
        left = send(self.server, http("GET", "/flush/")).body
        return left == b"0" or left.endswith(b"\r\n0\r\n\r\n0")

    def _row(self, key: str) -> dict[str, Any]:
        ((found),) = self.site.databases.query(
            self.site.audit_alias,
            f"SELECT {', '.join(COLUMNS)} FROM otel_audit_requestauditevent WHERE id = '{key}'",
        )
        row = dict(zip(COLUMNS, found, strict=True))
        for name in ("changed_fields", "extra_informations"):
            if isinstance(row[name], str):
                row[name] = json.loads(row[name])
        return row


def http(
    method: str | bytes,
    target: str | bytes,
    *headers: str | bytes,
    body: bytes | None = None,
    host: str | bytes = "127.0.0.1",
) -> bytes:
    """Write a request; text is sent as Latin-1, and ``Content-Length`` and ``Connection`` are added."""
    lines = [_bytes(method) + b" " + _bytes(target) + b" HTTP/1.1", b"Host: " + _bytes(host), *map(_bytes, headers)]
    if body is not None and not any(line.lower().startswith((b"content-length:", b"transfer-")) for line in lines):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"Connection: close", b"", body or b""])


def send(server: Server, raw: bytes) -> Answer:
    """Send bytes as they are and return what comes back until the server closes."""
    with connect(server) as connection:
        with suppress(ConnectionError):  # a server may answer and close before it has read everything
            connection.sendall(raw)
        received = b""
        with suppress(ConnectionError):
            while part := connection.recv(65_536):
                received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *headers = head.split(b"\r\n")
    return Answer(status_line, tuple(line for line in headers if not line.lower().startswith(b"date:")), body)


def connect(server: Server) -> socket.socket:
    """Open a connection to a server."""
    host, port = server.base_url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), TIMEOUT_S)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
