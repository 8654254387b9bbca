"""Requests that are noted before their view runs, and refused where that fails and the site requires it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.models import Permission, User
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path
from django.utils import translation

from otel_audit import edges, flush, passage, routes, status
from otel_audit.conf import conf
from otel_audit.health import health
from otel_audit.models import RequestAuditEvent
from otel_audit_exporters import pipeline as module
from otel_audit_exporters import tailing
from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.envelope import parse
from otel_audit_exporters.intents import open_intents
from otel_audit_exporters.pipeline import pipeline
from otel_audit_exporters.segments import Segment, segments
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import UNUSABLE

from .doors import Door, _collect_open_files

pytestmark = [
    pytest.mark.django_db(databases=["default", "audit"], transaction=True),
    pytest.mark.urls(__name__),
    pytest.mark.usefixtures("fresh_pipeline", "fresh_provider"),
]

Deliver = Callable[..., Path]
#: The intents that were open while each view ran.
seen: list[list[dict[str, Any]]] = []


def look(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    """See what is in the spool."""
    seen.append(open_in(conf.spool_dir))
    return HttpResponse("seen", status=int(request.GET.get("status", 200)))


def crash(request: HttpRequest) -> HttpResponse:
    """Fail."""
    raise ValueError("the till is empty")


def stream(request: HttpRequest) -> HttpResponseBase:
    """See what is in the spool while a stream is sent."""

    def parts() -> Iterator[bytes]:
        yield b"one "
        look(request)
        yield b"two"

    return StreamingHttpResponse(parts())


async def astream(request: HttpRequest) -> HttpResponseBase:
    """Do so in an event loop."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        await asyncio.to_thread(look, request)
        yield b"two"

    return StreamingHttpResponse(parts())


urlpatterns = [
    path("look/", look),
    path("static/look/", look),
    path("crash/", crash),
    path("stream/", stream),
    path("astream/", astream),
    path("reset/<uidb64>/<token>/", look),
    path("somewhere/health-of-ours/", health),
    *i18n_patterns(path("confirm/<token>/", look)),
]

warns_of_the_other_kind = pytest.mark.filterwarnings(
    "ignore:StreamingHttpResponse must consume (a)?synchronous iterators:Warning"
)


def open_in(directory: Path) -> list[dict[str, Any]]:
    """Return the intents that are open in a spool directory."""
    found = []
    for each in segments(directory) if directory.is_dir() else ():
        with Segment(each) as segment:
            found += [parse(frame.payload) for frame in open_intents(segment)]
    return found


@pytest.fixture(autouse=True)
def _nothing_is_logged() -> None:
    """Trouble is what many of these tests make: what is logged of it is no failure."""


@pytest.fixture(autouse=True)
def _nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "LIVENESS_S", 0)
    seen.clear()


@pytest.fixture
def deliver(settings: Any, tmp_path: Path) -> Deliver:
    """Have intents made; return the path of the spool directory."""

    def set_intents(intents: str, delivery: str = "spool", **more: Any) -> Path:
        settings.OTEL_AUDIT = {
            "DATABASE": "audit",
            "DELIVERY": delivery,
            "DRAIN": "external",
            "INTENTS": intents,
            "SPOOL_DIR": str(tmp_path / "spool"),
            **more,
        }
        return tmp_path / "spool"

    return set_intents


def rows_after_death() -> list[RequestAuditEvent]:
    """Return the rows that are there when this process has died and the spool was drained."""
    if pipeline._spool is not None:
        with pipeline._spool._flusher.guard:  # a sync that is under way keeps the file open, and so its lock
            pipeline._spool.after_fork_in_child()
    Drainer(conf.spool_dir, conf.fingerprint, pipeline.store).run_until_empty(10)
    return list(RequestAuditEvent.objects.order_by("id"))


def assert_the_figures_add_up(stored: int, refused: int = 0) -> None:
    """Everything that was captured is stored."""
    counts = pending(conf.spool_dir, conf.fingerprint)
    assert (counts["captured"], counts["stored"], counts["refused"]) == (stored, stored, refused)


@pytest.mark.parametrize("intents", ["record", "require"])
@pytest.mark.parametrize("fsync", ["interval", "always"])
def test_the_intent_is_stored_before_the_view_runs_and_its_record_takes_its_place(
    door: Door, deliver: Deliver, intents: str, fsync: str
) -> None:
    directory = deliver(intents, FSYNC=fsync)

    door.get("/look/?q=tea&token=hunter2", headers={"User-Agent": "curl"})

    ((intent,),) = seen
    facts = intent["facts"]
    assert (facts["method"], facts["url"], facts["route"], facts["user_agent"]) == ("GET", "/look/", "look/", "curl")
    assert "q=tea" in facts["query"]
    assert "hunter2" not in json.dumps(intent)
    assert (facts["address"], facts["actor"], facts["status"]) == ("192.0.2.7", None, None)
    assert len(intent["span"]["trace_id"]) == 32
    assert open_in(directory) == []
    (row,) = rows_after_death()
    assert (str(row.id), row.status_code, row.outcome) == (intent["id"], 200, "success")
    assert row.trace_id == intent["span"]["trace_id"]
    assert_the_figures_add_up(1)


@pytest.mark.parametrize("where", ["/reset/MQ/hunter2/", "/reset/MQ/hunter2", "/reset/MQ/hunter2/)."])
def test_the_spool_has_no_secret_of_a_link_that_reaches_no_view_either(
    door: Door, deliver: Deliver, where: str
) -> None:
    directory = deliver("record")

    door.get(where)

    spooled = b"".join(segment.read_bytes() for segment in segments(directory))
    assert b"/reset/MQ/" in spooled
    assert b"hunter2" not in spooled


def test_no_intent_is_made_where_nobody_asks_for_it(door: Door, deliver: Deliver) -> None:
    deliver("off")

    door.get("/look/")

    assert seen == [[]]
    assert len(rows_after_death()) == 1


@warns_of_the_other_kind
@pytest.mark.parametrize("where", ["/stream/", "/astream/"])
def test_a_stream_completes_its_intent_when_it_is_closed(door: Door, deliver: Deliver, where: str) -> None:
    directory = deliver("record")

    reply = door.get(where)

    assert reply.body == b"one two"
    assert [len(intents) for intents in seen] == [1]
    assert open_in(directory) == []
    (row,) = rows_after_death()
    assert (row.status_code, row.response_size) == (200, 7)


def test_a_view_that_fails_completes_its_intent(door: Door, deliver: Deliver) -> None:
    directory = deliver("require")

    reply = door.get("/crash/")

    assert reply.status == 500
    assert open_in(directory) == []
    assert [row.status_code for row in rows_after_death()] == [500]


@pytest.mark.parametrize("answer", [200, 404, 500])
def test_a_request_that_the_policy_leaves_out_leaves_its_intent_only_if_it_dies(
    door: Door, deliver: Deliver, answer: int
) -> None:
    directory = deliver("record")

    door.get(f"/static/look/?status={answer}")

    assert [len(intents) for intents in seen] == [1]
    assert open_in(directory) == []
    assert [row.status_code for row in rows_after_death()] == [500] * (answer == 500)


@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_a_request_that_dies_in_its_view_leaves_a_row(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch, delivery: str
) -> None:
    deliver("record", delivery)

    class DeathError(BaseException):
        """The process ends here."""

    def die(*_: Any) -> None:
        raise DeathError

    monkeypatch.setattr(passage.Passage, "finish", die)
    monkeypatch.setattr(passage.Passage, "aborted", die)
    try:
        copy_context().run(door.get, "/look/")  # what a dead process leaves open is not of the next test
    except DeathError as death:
        _collect_open_files(death)

    (row,) = rows_after_death()

    assert (row.url, row.outcome, row.status_code, row.response_time) == ("/look/", "unknown", None, None)
    assert row.actor_name == "unknown"
    assert_the_figures_add_up(1)


@pytest.mark.parametrize("where", ["/reset/MQ/c1a2b3-fedcba9876543210/", "/de/confirm/c1a2b3-fedcba9876543210/"])
def test_a_secret_in_the_path_is_masked_in_the_intent(door: Door, deliver: Deliver, settings: Any, where: str) -> None:
    directory = deliver("record")
    settings.MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware", *settings.MIDDLEWARE]

    with translation.override("en"):  # the middleware leaves what it has activated
        door.get(where)

    assert [len(intents) for intents in seen] == [1]
    assert b"fedcba9876543210" not in b"".join(each.read_bytes() for each in segments(directory))


def test_the_language_of_a_path_is_known_at_the_door(rf: Any) -> None:
    request = rf.get("/de/confirm/hunter2/")

    route, kwargs = routes.match_ahead(request)

    assert (route, kwargs) == ("de/confirm/<token>/", {"token": "hunter2"})


def test_the_urls_of_a_request_without_a_view_have_no_route(rf: Any) -> None:
    assert routes.match_ahead(rf.get("/nowhere/")) == ("", {})
    assert routes.match_ahead(rf.get("/de/nowhere/")) == ("", {})


# ── delivered past the spool ────────────────────────────────────────────────────────────────────


def test_a_row_that_is_written_at_once_completes_the_intent(door: Door, deliver: Deliver) -> None:
    directory = deliver("require", "sync")

    door.get("/look/")

    assert [len(intents) for intents in seen] == [1]
    assert RequestAuditEvent.objects.get().status_code == 200
    assert open_in(directory) == []
    assert len(rows_after_death()) == 1


def test_an_intent_whose_record_is_stored_already_is_done_and_no_conflict(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = deliver("record", "sync")
    monkeypatch.setattr(SpoolWriter, "complete", lambda self, record_id: None)  # the process dies before it
    door.get("/look/")
    left_open = open_in(directory)

    (row,) = rows_after_death()

    assert [intent["id"] for intent in left_open] == [str(row.id)]
    assert (row.status_code, status()["quarantined"]) == (200, 0)


def test_a_spool_that_fills_up_during_the_view_gets_round_to_the_database(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = deliver("require")
    real = SpoolWriter.append
    monkeypatch.setattr(SpoolWriter, "append", _full)

    door.get("/look/")

    monkeypatch.setattr(SpoolWriter, "append", real)
    assert open_in(directory) == []
    assert [row.status_code for row in rows_after_death()] == [200]


def test_memory_delivery_needs_no_intent(door: Door, deliver: Deliver, tmp_path: Path) -> None:
    deliver("require", "memory")
    (tmp_path / "spool").write_text("")

    reply = door.get("/look/")

    assert reply.status == 200
    assert status()["refused"] == 0


def test_a_record_that_cannot_be_encoded_is_made_up_for_by_its_intent(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("record")
    monkeypatch.setattr(edges, "reraise", False)

    def broken(*_: Any) -> Any:
        raise ValueError("cannot be encoded")

    monkeypatch.setattr(module, "encode_request", broken)
    door.get("/look/")

    (row,) = rows_after_death()

    assert (row.outcome, row.status_code) == ("unknown", None)
    assert status()["lost"] == 0


# ── refused ─────────────────────────────────────────────────────────────────────────────────────


def _full(*_: Any) -> Any:
    from otel_audit.exceptions import SpoolError

    raise SpoolError("The spool is full.")


def unusable(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a file in the place of the directory."""
    directory.write_text("")


def full(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing more into the spool."""
    directory.mkdir(mode=0o700)
    (directory / "something").write_bytes(bytes(1 << 20))
    monkeypatch.setitem(module.conf.written(), "SPOOL_MAX_BYTES", 1 << 20)


def without_sync(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk refuse what it has taken."""

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setitem(module.conf.written(), "FSYNC", "always")


TROUBLES = [unusable, full, without_sync]


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_without_an_intent_the_view_does_not_run_where_it_is_required(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., None], delivery: str
) -> None:
    trouble(deliver("require", delivery), monkeypatch)

    reply = door.get("/look/")

    assert (reply.status, reply.header("Retry-After"), seen) == (503, "5", [])
    assert b"audit trail" in reply.body
    assert (status()["refused"], status()["captured"]) == (1, 0)
    monkeypatch.undo()


@pytest.mark.parametrize("spoil", UNUSABLE)
def test_a_spool_directory_that_cannot_be_used_refuses_where_intents_are_required(
    door: Door, deliver: Deliver, spoil: Callable[[Path], None]
) -> None:
    spoil(deliver("require"))

    reply = door.get("/look/")

    assert (reply.status, reply.header("Retry-After"), seen) == (503, "5", [])
    assert (status()["refused"], status()["captured"]) == (1, 0)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_without_an_intent_the_view_runs_where_it_is_only_recorded(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., None]
) -> None:
    trouble(deliver("record"), monkeypatch)

    reply = door.get("/look/")

    assert (reply.status, len(seen)) == (200, 1)
    assert (status()["refused"], status()["captured"]) == (0, 1)
    monkeypatch.undo()


def test_refusals_end_when_there_is_room_again(door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = deliver("require")
    full(directory, monkeypatch)
    refused = door.get("/look/").status
    (directory / "something").unlink()
    assert pipeline._spool is not None
    pipeline._spool._room._surveyed_at = 0.0

    reply = door.get("/look/")

    assert (refused, reply.status) == (503, 200)
    assert [row.status_code for row in rows_after_death()] == [200]
    assert_the_figures_add_up(1, refused=1)


def test_a_guard_that_fails_itself_refuses_where_intents_are_required(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("require")
    monkeypatch.setattr(edges, "reraise", False)

    def broken(*_: Any) -> Any:
        raise ValueError("no scope")

    monkeypatch.setattr(passage, "RequestScope", broken)

    assert door.get("/look/").status == 503
    assert seen == []


def test_an_intent_that_cannot_be_described_refuses_too(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("require")
    monkeypatch.setattr(edges, "reraise", False)

    def broken(*_: Any) -> Any:
        raise ValueError("no facts")

    monkeypatch.setattr(passage, "intent_facts", broken)

    assert door.get("/look/").status == 503
    assert seen == []


# ── the health view ─────────────────────────────────────────────────────────────────────────────

HEALTH = "/somewhere/health-of-ours/"


def test_health_tells_anybody_whether_it_works_and_nothing_else(door: Door, deliver: Deliver) -> None:
    deliver("off")

    reply = door.get(HEALTH)

    assert (reply.status, json.loads(reply.body)) == (200, {"status": "ok"})
    assert "no-store" in str(reply.header("Cache-Control"))


@pytest.mark.parametrize("trouble", [unusable, full])
def test_health_fails_where_the_spool_takes_nothing_and_is_not_refused_itself(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., None]
) -> None:
    trouble(deliver("require"), monkeypatch)

    reply = door.get(HEALTH)

    assert (reply.status, json.loads(reply.body)) == (503, {"status": "failing"})
    assert status()["refused"] == 0


def test_health_fails_where_a_record_has_waited_for_long(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("off")
    door.get("/look/")
    young = door.get(HEALTH).status
    monkeypatch.setattr("otel_audit.health.OLDEST_PENDING_S", 0)

    assert (young, door.get(HEALTH).status) == (200, 503)


def test_health_fails_where_its_figures_cannot_be_had(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("off")
    monkeypatch.setattr(edges, "reraise", False)

    def broken(self: Any) -> Any:
        raise OSError("the directory is gone")

    monkeypatch.setattr(type(pipeline), "status", broken)

    assert door.get(HEALTH).status == 503


@pytest.mark.parametrize("allowed", [False, True])
def test_health_gives_figures_to_those_who_may_see_the_rows(
    door: Door, deliver: Deliver, session: dict[str, str], user: User, allowed: bool
) -> None:
    deliver("off")
    if allowed:
        user.user_permissions.add(Permission.objects.get(codename="view_requestauditevent"))
    door.get("/look/")

    said = json.loads(door.get(HEALTH, headers=session).body)

    assert said.pop("status") == "ok"
    if allowed:
        assert said.pop("oldest_pending_s") >= 0
    assert said == ({"pending": 1, "quarantined": 0, "lost": 0, "refused": 0} if allowed else {})


@pytest.mark.parametrize("broken", [False, True])
def test_health_leaves_no_record_of_itself(
    door: Door, deliver: Deliver, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    directory = deliver("record")
    if broken:
        monkeypatch.setattr("otel_audit.health.OLDEST_PENDING_S", -1)
    door.get("/look/")

    door.get(HEALTH)

    assert open_in(directory) == []
    assert [row.url for row in rows_after_death()] == ["/look/"]


def test_a_rule_of_the_site_has_the_health_view_recorded(door: Door, deliver: Deliver) -> None:
    deliver("off", POLICY=[{"path": "^/somewhere/", "level": "metadata"}])

    door.get(HEALTH)

    assert [row.url for row in rows_after_death()] == [HEALTH]


def test_a_view_of_the_site_is_recorded_whatever_its_name(door: Door, deliver: Deliver) -> None:
    deliver("off")

    door.get("/health/otel_audit/health/")

    assert [row.status_code for row in rows_after_death()] == [404]


def test_flush_leaves_open_requests_alone(door: Door, deliver: Deliver) -> None:
    deliver("record", DRAIN="thread")

    door.get("/look/")

    assert flush(10) == 0
    assert RequestAuditEvent.objects.count() == 1
