"""Clients that go and views that are cancelled leave exactly one record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import django
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from otel_audit.middleware import GuardMiddleware
from otel_audit.testing import AuditRecords

from .conftest import URLS
from .doors import Reply, asgi_scope, receiving, sending, wsgi_environ
from .views import entered

pytestmark = [pytest.mark.urls(URLS), pytest.mark.usefixtures("span_source")]


async def until(condition: Callable[[], Any]) -> None:
    """Wait until ``condition`` holds: a sync middleware runs in a thread, which ends a little later."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def running(path: str, reply: Reply) -> Callable[[], Any]:
    """Return what says that the view or the stream of ``path`` waits for ever."""
    entered.clear()
    return entered.is_set if path == "/endless/" else lambda: reply.body


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel the handler, as a server does that shuts down."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


cancels_its_tasks = pytest.mark.skipif(
    django.VERSION < (6,), reason="Django 5.2 goes on with a request whose handler was cancelled"
)


def assert_one_interrupted_record(records: AuditRecords, path: str) -> None:
    """One record, which says that it was interrupted."""
    (row,) = records.requests
    assert row.url == path
    assert row.outcome == ("unknown" if path == "/endless/" else "failure")
    assert row.status_code == (None if path == "/endless/" else 200)
    assert row.error_type in ("asyncio.exceptions.CancelledError", "ConnectionAbortedError")


@pytest.mark.parametrize("path", ["/endless/", "/astream_endless/"])
async def test_client_that_goes_leaves_one_record(records: AuditRecords, path: str) -> None:
    reply = Reply()
    is_running = running(path, reply)
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b""}]

    async def receive() -> dict[str, Any]:
        if len(messages) == 1:
            await until(is_running)
        return messages.pop()

    await ASGIHandler()(asgi_scope("GET", path), receive, sending(reply))
    await until(lambda: records.requests)

    assert_one_interrupted_record(records, path)


@cancels_its_tasks
@pytest.mark.parametrize("path", ["/endless/", "/astream_endless/"])
async def test_cancelled_handler_leaves_one_record(records: AuditRecords, path: str) -> None:
    reply = Reply()
    is_running = running(path, reply)
    task = asyncio.create_task(ASGIHandler()(asgi_scope("GET", path), receiving(b""), sending(reply)))
    await until(is_running)

    await cancel(task)
    await until(lambda: records.requests)

    assert_one_interrupted_record(records, path)


@cancels_its_tasks
async def test_cancelled_handler_that_waits_for_the_client_leaves_one_record(records: AuditRecords) -> None:
    started = asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        if message.get("body"):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(ASGIHandler()(asgi_scope("GET", "/astream/"), receiving(b""), send))
    await started.wait()

    await cancel(task)
    await until(lambda: records.requests)

    (row,) = records.requests
    assert (row.status_code, row.outcome) == (200, "failure")
    assert row.error_type == "ConnectionAbortedError"


def test_client_that_goes_in_mid_stream_leaves_one_record(records: AuditRecords) -> None:
    response = WSGIHandler()(wsgi_environ("GET", "/stream/"), lambda status, headers, exc_info=None: None)
    next(iter(response))
    response.close()

    (row,) = records.requests
    assert (row.status_code, row.response_size, row.outcome) == (200, 4, "failure")
    assert row.error_type == "ConnectionAbortedError"


def test_stream_that_is_never_read_leaves_one_record(records: AuditRecords) -> None:
    response = WSGIHandler()(wsgi_environ("HEAD", "/stream/"), lambda status, headers, exc_info=None: None)
    response.close()

    (row,) = records.requests
    assert (row.status_code, row.response_size) == (200, 0)


@pytest.mark.parametrize(("error", "outcome"), [(ValueError, "failure"), (SystemExit, "unknown")])
def test_exception_that_django_has_no_answer_to_is_a_failure_and_an_end_is_none(
    records: AuditRecords, rf: RequestFactory, error: type[BaseException], outcome: str
) -> None:
    def fail(request: HttpRequest) -> HttpResponse:
        raise error("no answer")

    with pytest.raises(error):
        GuardMiddleware(fail)(rf.get("/hello/"))

    (row,) = records.requests
    assert (row.outcome, row.status_code, row.error_type) == (outcome, None, error.__name__)
