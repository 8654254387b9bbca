"""Views that have an effect, which outlives them, and may not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path

from otel_audit.health import health


def _commit(request: HttpRequest) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO purchase (query) VALUES (%s)", [request.META["QUERY_STRING"]])


def order(request: HttpRequest) -> HttpResponse:
    """Have the effect, and take some time around it."""
    time.sleep(0.002)
    _commit(request)
    time.sleep(0.002)
    return HttpResponse("ordered")


def leave(request: HttpRequest) -> HttpResponse:
    """Have the effect and end the process without a word."""
    _commit(request)
    os._exit(7)  # 3 tells gunicorn that no worker can start


def kill(request: HttpRequest) -> HttpResponse:
    """Have the effect and be killed."""
    _commit(request)
    os.kill(os.getpid(), signal.SIGKILL)
    return HttpResponse("never")


def stream(request: HttpRequest) -> HttpResponseBase:
    """Have the effect and be killed in the middle of the answer."""

    def parts() -> Iterator[bytes]:
        yield b"one"
        _commit(request)
        os.kill(os.getpid(), signal.SIGKILL)
        yield b"two"

    return StreamingHttpResponse(parts())


urlpatterns = [
    path("order/", order),
    path("leave/", leave),
    path("static/kill/", kill),
    path("kill/", kill),
    path("stream/", stream),
    path("api/health/", health),
]
