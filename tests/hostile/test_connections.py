"""Connections that stop, crawl or go away, and headers that two requests share: one row each."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.e2e.shop import until

from .sites import Audited, connect, http, send

ENDLESS = {"wsgi": "/endless/", "asgi": "/async-endless/"}


def test_client_that_leaves_in_the_middle_of_an_answer_leaves_one_row(door: Audited) -> None:
    with connect(door.server) as connection:
        connection.sendall(http("GET", ENDLESS[door.name]))
        connection.recv(100)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as of a crash

    (row,) = _rows(door, 1)
    assert (row["url"], row["status_code"], row["outcome"]) == (ENDLESS[door.name], 200, "failure")
    assert row["error_type"]


@pytest.mark.parametrize("door", ["asgi"], indirect=True)
def test_async_view_that_is_cancelled_as_its_client_leaves_has_one_row(door: Audited) -> None:
    with connect(door.server) as connection:
        connection.sendall(http("GET", "/awaiting/"))
        assert until(lambda: "awaiting" in door.site.log, timeout=10)

    (row,) = _rows(door, 1)
    assert (row["url"], row["status_code"], row["outcome"]) == ("/awaiting/", None, "unknown")
    assert row["error_type"] == "asyncio.exceptions.CancelledError"


def test_body_that_comes_byte_by_byte_has_one_row(door: Audited) -> None:
    raw = http("POST", "/data/", "Content-Type: application/json", body=b'{"a": 1}')

    with connect(door.server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(raw)):
            connection.sendall(raw[position : position + 1])
        answer = b""
        while part := connection.recv(65_536):
            answer += part

    (row,) = door.new_rows()
    assert answer.startswith(b"HTTP/1.1 200")
    assert (row["request_body"], row["request_size"]) == ('{"a": 1}', 8)


def test_body_that_never_ends_has_one_row_once_the_view_has_asked_for_it(door: Audited) -> None:
    raw = http("POST", "/echo/", "Content-Length: 100", body=b"only this")

    with connect(door.server) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass

    # An ASGI application of Django reads the body first, and begins no request that was not sent to its end.
    rows = _rows(door, 1 if door.name == "wsgi" else 0)
    found = [(row["url"], row["outcome"], row["request_size"]) for row in rows]
    assert found == ([("/echo/", "success", len("only this"))] if door.name == "wsgi" else [])


def test_two_requests_in_one_trace_on_one_connection_have_a_row_each(door: Audited) -> None:
    trace = f"traceparent: 00-{'a' * 32}-{'b' * 16}-00"
    first = http("GET", "/echo/1/", trace).replace(b"Connection: close", b"Connection: keep-alive")

    answer = send(door.server, first + http("GET", "/echo/2/", trace))

    rows = _rows(door, 2)
    assert answer.body.count(b"HTTP/1.1 200") == 1
    assert {(row["url"], row["trace_id"]) for row in rows} == {("/echo/1/", "a" * 32), ("/echo/2/", "a" * 32)}
    assert len({row["id"] for row in rows}) == 2


def test_nothing_that_was_sent_forges_a_line_of_our_log(door: Audited) -> None:
    for name in ("a%0d%0aERROR otel_audit forged", "%1b[2J"):
        send(door.server, http("GET", "/crash/suspicious/?text=" + name.replace(" ", "%20")))
        send(door.server, http("POST", "/crash/echo/", body=name.replace("%0d%0a", "\r\n").encode()))

    assert len(door.new_rows()) == 4
    assert "forged" not in door.site.own_log


def _rows(door: Audited, count: int) -> list[dict[str, Any]]:
    """Return the new rows once there are ``count``: a connection that breaks is noticed a moment later."""
    found: list[dict[str, Any]] = []

    def are_there() -> bool:
        found.extend(door.new_rows())
        return len(found) >= count

    until(are_there, timeout=10)
    return found
