"""The two ways in: a raw WSGI environ and a raw ASGI scope, with one signature and one kind of reply."""

from __future__ import annotations

import gc
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler

CLIENT = "192.0.2.7"


@dataclass
class Reply:
    """What the client got."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    error: BaseException | None = None

    def header(self, name: str) -> str | None:
        """Return the first header ``name``."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Door:
    """Sends one request to the site as its settings are now."""

    name: str

    def get(self, path: str, **options: Any) -> Reply:
        """Send a GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, body: bytes = b"", **options: Any) -> Reply:
        """Send a POST."""
        return self.request("POST", path, body=body, **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        scheme: str = "http",
    ) -> Reply:
        """Send one request; ``path`` may have a query string. An exception that reached the server is ``error``."""
        path, _, query = path.partition("?")
        return self._send(method, path, query, body, {"Host": "testserver", **(headers or {})}, scheme)

    def _send(self, method: str, path: str, query: str, body: bytes, headers: dict[str, str], scheme: str) -> Reply:
        raise NotImplementedError


class WSGIDoor(Door):
    """Calls Django as gunicorn does."""

    name = "wsgi"

    def _send(self, method: str, path: str, query: str, body: bytes, headers: dict[str, str], scheme: str) -> Reply:
        environ = wsgi_environ(method, path, query, headers, scheme, body)
        reply = Reply()

        def start_response(status: str, found: list[tuple[str, str]], exc_info: Any = None) -> Any:
            reply.status, reply.headers = int(status.split(maxsplit=1)[0]), list(found)

        response = WSGIHandler()(environ, start_response)
        try:
            for part in response:
                reply.body += part
        except Exception as error:  # a server logs it and cuts the connection
            reply.error = error
        finally:
            response.close()
        return reply


class ASGIDoor(Door):
    """Calls Django as uvicorn does."""

    name = "asgi"

    def _send(self, method: str, path: str, query: str, body: bytes, headers: dict[str, str], scheme: str) -> Reply:
        reply = Reply()

        async def serve() -> None:
            try:
                await ASGIHandler()(
                    asgi_scope(method, path, query, headers, scheme, body), receiving(body), sending(reply)
                )
            except Exception as error:  # a server logs it and cuts the connection
                reply.error = error

        async_to_sync(serve)()
        if reply.error is not None:
            _collect_open_files(reply.error)
        return reply


def _collect_open_files(error: BaseException) -> None:
    """Django 5.2 leaves the body's temporary file open when a stream fails."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def wsgi_environ(
    method: str,
    path: str,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    scheme: str = "http",
    body: bytes = b"",
) -> dict[str, Any]:
    """Return the environ that gunicorn makes of a request."""
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": CLIENT,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "CONTENT_LENGTH": str(len(body)) if body else "",
    }
    for name, value in (headers or {"Host": "testserver"}).items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    return environ


def asgi_scope(
    method: str,
    path: str,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    scheme: str = "http",
    body: bytes = b"",
) -> dict[str, Any]:
    """Return the scope that uvicorn makes of a request."""
    found = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in (headers or {"Host": "testserver"}).items()
    ]
    if body and not any(name == b"content-length" for name, _ in found):
        found.append((b"content-length", str(len(body)).encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": unquote_to_bytes(path).decode("utf-8", "surrogateescape"),
        "raw_path": quote(path, safe="/%").encode(),
        "root_path": "",
        "query_string": query.encode("latin-1"),
        "headers": found,
        "client": (CLIENT, 12345),
        "server": ("testserver", 80),
    }


def receiving(body: bytes) -> Any:
    """Return a ``receive`` that gives ``body`` and then waits for ever, as a connection that stays open does."""
    import asyncio

    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    return receive


def sending(reply: Reply) -> Any:
    """Return a ``send`` that collects what is sent in ``reply``."""

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
        else:
            reply.body += message.get("body", b"")

    return send
