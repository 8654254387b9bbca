"""Where the site's entry stands, and how often, changes nothing that matters."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path

from otel_audit.apps import install_guard
from otel_audit.middleware import GUARD_PATH, AuditMiddleware, GuardMiddleware
from otel_audit.testing import AuditRecords

from .views import acrash, ahello, crash, item

OURS = "otel_audit.middleware.AuditMiddleware"
ALIAS = "otel_audit.middleware.RequestLoginAuditEventMiddleware"


class SiteMiddleware(AuditMiddleware):
    """A site's own subclass."""


def inner(request: HttpRequest) -> HttpResponse:
    """Call the site itself, as a view does that composes others."""
    response = Client().get("/item/7/")
    return HttpResponse(b"got " + response.content)


urlpatterns = [
    path("item/<int:pk>/", item),
    path("crash/", crash),
    path("ahello/", ahello),
    path("acrash/", acrash),
    path("inner/", inner),
]

pytestmark = pytest.mark.urls(__name__)

THEIRS = ["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.common.CommonMiddleware"]


@pytest.mark.parametrize(
    "entries",
    [
        [*THEIRS, OURS],
        [OURS, *THEIRS],
        [THEIRS[0], OURS, THEIRS[1]],
        [*THEIRS, ALIAS],
        [OURS, *THEIRS, OURS],
        [ALIAS, *THEIRS, OURS],
        [*THEIRS, f"{__name__}.SiteMiddleware"],
        [*THEIRS, GUARD_PATH, OURS],
    ],
)
def test_one_record_says_route_and_error_wherever_the_entry_stands(
    records: AuditRecords, settings: Any, entries: list[str]
) -> None:
    settings.MIDDLEWARE = entries
    client = Client(raise_request_exception=False)

    client.get("/item/7/")
    client.get("/crash/")

    fine, crashed = records.requests
    assert (fine.route, fine.status_code) == ("item/<int:pk>/", 200)
    assert (crashed.status_code, crashed.error_message) == (500, "the till is empty")


def test_guard_is_put_in_front_of_the_sites_entry_alone(settings: Any) -> None:
    settings.MIDDLEWARE = [*THEIRS, ALIAS]
    guarded = settings.MIDDLEWARE

    settings.MIDDLEWARE = THEIRS

    assert guarded == [GUARD_PATH, *THEIRS, ALIAS]
    assert settings.MIDDLEWARE == THEIRS


def test_guard_is_put_there_once(settings: Any) -> None:
    for _ in range(3):
        install_guard()

    assert settings.MIDDLEWARE.count(GUARD_PATH) == 1


@pytest.mark.parametrize("broken", ["nowhere.Middleware", "tests.requests.broken_module.Middleware"])
def test_middleware_that_cannot_be_imported_is_left_to_django(settings: Any, broken: str) -> None:
    settings.MIDDLEWARE = [broken, OURS]

    assert settings.MIDDLEWARE[:2] == [GUARD_PATH, broken]


def test_entry_without_a_guard_is_one(records: AuditRecords) -> None:
    response = AuditMiddleware(lambda request: HttpResponse("alone"))(RequestFactory().get("/alone/"))

    assert response.content == b"alone"  # type: ignore[union-attr]
    assert records.requests[0].url == "/alone/"


@pytest.mark.parametrize("layer", [AuditMiddleware, GuardMiddleware])
async def test_layers_are_native_in_an_event_loop(records: AuditRecords, layer: Any) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("alone")

    response = await layer(view)(RequestFactory().get("/alone/"))

    assert response.content == b"alone"
    assert records.requests[0].url == "/alone/"


async def test_async_stack_of_ours_never_leaves_the_event_loop(
    records: AuditRecords, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MIDDLEWARE = [OURS]
    loop = asyncio.get_running_loop()
    threads: list[Any] = []
    run_in_executor = loop.run_in_executor
    monkeypatch.setattr(
        loop, "run_in_executor", lambda executor, *call: (threads.append(call), run_in_executor(executor, *call))[1]
    )
    client = AsyncClient()

    await client.get("/ahello/")  # the first one builds the handler
    threads.clear()
    await client.get("/ahello/")

    assert len(records.requests) == 2
    assert [call for call in threads if "otel_audit" in str(call)] == []
    assert len(threads) <= 2  # the test client's own signals


async def test_concurrent_requests_are_kept_apart(records: AuditRecords) -> None:
    client = AsyncClient(raise_request_exception=False)

    await asyncio.gather(*(client.get(f"/item/{n}/?n={n}") for n in range(20)), client.get("/acrash/"))

    rows = {row.url: row for row in records.requests}
    assert len(rows) == len(records.requests) == 21
    assert all(rows[f"/item/{n}/"].query_params == f"n={n}" for n in range(20))
    assert {row.error_type for url, row in rows.items() if url != "/acrash/"} == {None}


def test_request_inside_a_request_has_a_record_of_its_own(records: AuditRecords) -> None:
    response = Client().get("/inner/")

    within, around = records.requests
    assert response.content == b"got item 7"
    assert (within.url, around.url) == ("/item/7/", "/inner/")
    assert within.span_id != around.span_id


def test_middleware_that_returns_nothing_has_one_record(records: AuditRecords) -> None:
    layer = GuardMiddleware(lambda request: None)

    assert layer(RequestFactory().get("/nothing/")) is None

    (row,) = records.requests
    assert (row.status_code, row.outcome) == (None, "unknown")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_process_that_is_told_to_exit_in_a_request_leaves_its_record(
    records: AuditRecords, kind: type[BaseException]
) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        raise kind

    with pytest.raises(kind):
        GuardMiddleware(view)(RequestFactory().get("/exit/"))

    (row,) = records.requests
    assert (row.outcome, row.error_type) == ("unknown", kind.__name__)
