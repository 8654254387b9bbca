"""Garbage collection ends what somebody abandoned, in the middle of anything, also inside of our own locks."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

from otel_audit import process, provider
from otel_audit.conf import conf
from otel_audit_exporters import alarm
from otel_audit_exporters.accounts import locked
from otel_audit_exporters.drain import Drainer
from otel_audit_exporters.envelope import parse
from otel_audit_exporters.pipeline import pipeline
from otel_audit_exporters.quarantine import put_aside
from otel_audit_exporters.spool import SpoolWriter
from otel_audit_exporters.writer import Outcome
from tests.e2e.shop import until

pytestmark = pytest.mark.usefixtures("fresh_pipeline", "fresh_provider")

#: Longer than any of this takes; a deadlock takes for ever.
PATIENCE_S = 20


class Collecting:
    """A lock of ours, inside of which something happens the first time that ``thread`` has it."""

    def __init__(self, lock: Any, thread: threading.Thread, inside: Callable[[], None]) -> None:
        self._lock = lock
        self._thread = thread
        self._inside = inside
        self.used = False
        self.is_wanted = threading.Event()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    def acquire(self, blocking: bool = True) -> bool:
        if not self._lock.acquire(blocking=False):
            self.is_wanted.set()
            if not blocking:
                return False
            self._lock.acquire()
        self._entered()
        return True

    def release(self) -> None:
        self._lock.release()

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())

    def __call__(self, fd: int, operation: int) -> None:
        """Act as ``fcntl.flock``."""
        try:
            self._lock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if operation & fcntl.LOCK_NB:
                raise
            self.is_wanted.set()
            self._lock(fd, operation)
        if not operation & fcntl.LOCK_NB:
            self._entered()

    def _entered(self) -> None:
        if threading.current_thread() is self._thread and not self.used:
            self.used = True
            self._inside()


def helper() -> Iterator[None]:
    with process("abandoned"):
        yield


def plain_span() -> Iterator[None]:
    with provider.site_tracer().start_as_current_span("abandoned", attributes={"audit.kind": "process"}):
        yield


def event_on_an_ordinary_span() -> Iterator[None]:
    with trace.get_tracer("shop").start_as_current_span("ordinary") as span:
        span.add_event("audit.registration", {"audit.registration.name": "abandoned"})
        yield


def abandon(what: Callable[[], Iterator[None]]) -> None:
    """Leave something begun in a cycle: counting references alone does not free it."""
    box: list[Any] = []
    box.append(what())
    next(box[0])
    box.append(box)


def spool() -> SpoolWriter:
    assert pipeline._spool is not None
    return pipeline._spool


def intend() -> None:
    pipeline.intend("0192f0c1-2345-7abc-8def-0123456789ab", 1, {}, None)
    pipeline.withdraw("0192f0c1-2345-7abc-8def-0123456789ab")


def find_the_writer() -> None:
    pipeline._spool_target = None  # as after a change of the settings: else no lock is needed
    intend()


def start_the_drain() -> None:
    pipeline._draining.sinks = pipeline._draining._target = None
    pipeline.start()


def write_the_books() -> None:
    with locked(conf.spool_dir, conf.fingerprint):
        pass


def attach() -> None:
    provider._state.site = None
    provider.site_tracer()


#: Where the lock is, its name, and what takes it without delivering.
PLACES: dict[str, tuple[Callable[[Drainer], Any], str, Callable[[Drainer], object]]] = {
    "deliver": (lambda _: pipeline, "_pump_lock", lambda _: pipeline.pump()),
    "find the writer": (lambda _: pipeline, "_writer_lock", lambda _: find_the_writer()),
    "note an intent": (lambda _: spool(), "_lock", lambda _: intend()),
    "note a loss": (lambda _: spool(), "_lock", lambda _: spool().record_loss({"reason": 1})),
    "sync": (lambda _: spool()._flusher, "guard", lambda _: spool()._flusher.sync()),
    "start the drain": (lambda _: pipeline._draining, "lock", lambda _: start_the_drain()),
    "drain": (lambda drainer: drainer, "_work", lambda drainer: drainer.run_until_empty(PATIENCE_S)),
    "write the books": (lambda _: fcntl, "flock", lambda _: write_the_books()),
    "raise an alarm": (lambda _: alarm, "lock", lambda _: alarm.raise_alarm("trouble", 1, "something")),
    "attach to a provider": (lambda _: provider, "lock", lambda _: attach()),
}


@pytest.mark.parametrize("what", [helper, plain_span, event_on_an_ordinary_span])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_abandoned_inside_of_a_lock_is_recorded_and_holds_up_nobody(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, place: str, what: Callable[[], Iterator[None]]
) -> None:
    settings.OTEL_AUDIT = {"DATABASE": "audit", "DELIVERY": "spool", "SPOOL_DIR": str(tmp_path / "spool")}
    taken: list[str] = []

    def take(payloads: Sequence[bytes]) -> Outcome:
        envelopes = [parse(payload) for payload in payloads]
        taken.extend(found["facts"].get("name") or found["span"]["name"] for found in envelopes)
        return Outcome(len(payloads))

    def deliver() -> None:
        """Need every lock that there is while delivering."""
        pipeline._draining._target = None
        with pipeline._pump_lock:
            put_aside(conf.spool_dir, conf.fingerprint, b"{}", "poison", "told so")
            with process("other"):
                alarm.raise_alarm("trouble", 1, "something")

    def collect() -> None:
        delivering.start()
        until(lambda: lock.is_wanted.is_set() or not delivering.is_alive(), timeout=PATIENCE_S)
        gc.collect()

    def hold() -> None:
        abandon(what)
        action(drainer)

    monkeypatch.setattr(pipeline._draining, "_store", take)
    monkeypatch.setattr(Drainer, "start", lambda self: None)
    with process("first"):
        pass
    spool()._segment_bytes = 1  # each append begins a segment, which syncs the one before
    drainer = Drainer(conf.spool_dir, conf.fingerprint, take)
    owner, attribute, action = PLACES[place]
    delivering = threading.Thread(target=deliver, daemon=True)
    holding = threading.Thread(target=hold, daemon=True)
    lock = Collecting(getattr(owner(drainer), attribute), holding, collect)
    monkeypatch.setattr(owner(drainer), attribute, lock)

    holding.start()
    holding.join(PATIENCE_S)
    delivering.join(PATIENCE_S)

    assert lock.used
    assert (holding.is_alive(), delivering.is_alive()) == (False, False)
    assert pipeline.flush(PATIENCE_S) == 0
    assert sorted(taken) == ["abandoned", "first", "other"]


def write_in_a_loop() -> None:
    async def write() -> None:
        pipeline._direct.write([b"{}"], at_request=False)

    asyncio.run(write())


def begin_a_flusher() -> None:
    spool()._flusher._start()


def begin_the_pump() -> None:
    pipeline._pumper.thread = None
    pipeline._pumper.start()


def begin_a_drainer() -> None:
    drainer = Drainer(conf.spool_dir, conf.fingerprint, lambda payloads: Outcome(len(payloads)))
    drainer.start()
    drainer.ask_to_stop()  # it has started: that is all this is about


#: What starts a thread while it may hold the lock that who delivers needs, and in which method of the new thread.
STARTS: dict[str, Callable[[], object]] = {
    "pump": begin_the_pump,
    "flusher": begin_a_flusher,
    "drain": begin_a_drainer,
    "write": write_in_a_loop,
}


@pytest.mark.parametrize("moment", ["_set_ident", "_set_native_id"])
@pytest.mark.parametrize("start", STARTS)
def test_what_is_abandoned_in_a_thread_before_it_says_that_it_runs_holds_up_nobody(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, start: str, moment: str
) -> None:
    settings.OTEL_AUDIT = {"DATABASE": "audit", "DELIVERY": "spool", "SPOOL_DIR": str(tmp_path / "spool")}
    taken: list[str] = []
    collected: list[str] = []

    def take(payloads: Sequence[bytes]) -> Outcome:
        envelopes = [parse(payload) for payload in payloads if payload != b"{}"]
        taken.extend(found["facts"].get("name") or found["span"]["name"] for found in envelopes)
        return Outcome(len(payloads))

    def hold() -> None:
        with pipeline._pump_lock:
            abandon(helper)
            monkeypatch.setattr(threading.Thread, moment, collect)
            STARTS[start]()

    original = getattr(threading.Thread, moment)

    def collect(thread: threading.Thread) -> None:
        if not collected and thread is not holding:
            collected.append(thread.name)
            gc.collect()
        original(thread)

    monkeypatch.setattr(pipeline._draining, "_store", take)
    with process("first"):
        pass
    monkeypatch.setattr(pipeline._direct, "_write", take)
    holding = threading.Thread(target=hold, daemon=True)

    holding.start()
    holding.join(PATIENCE_S)

    assert collected != []
    assert not holding.is_alive()
    until(lambda: pipeline.flush(PATIENCE_S) == 0 and sorted(taken) == ["abandoned", "first"], timeout=PATIENCE_S)


def test_what_is_abandoned_in_a_thread_that_writes_for_an_event_loop_holds_up_nobody(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.OTEL_AUDIT = {"DATABASE": "audit", "DELIVERY": "sync", "SPOOL_DIR": str(tmp_path / "spool")}
    taken: list[str] = []

    def take(payloads: Sequence[bytes]) -> Outcome:
        if not taken:
            abandon(helper)
            gc.collect()
        taken.extend(parse(payload)["facts"].get("name") or parse(payload)["span"]["name"] for payload in payloads)
        return Outcome(len(payloads))

    async def record() -> None:
        with process("first"):
            pass

    monkeypatch.setattr(pipeline._direct, "_write", take)
    began = time.monotonic()
    asyncio.run(record())

    assert time.monotonic() - began < PATIENCE_S
    until(lambda: sorted(taken) == ["abandoned", "first"], timeout=PATIENCE_S)
