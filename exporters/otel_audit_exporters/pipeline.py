"""One per process: takes ended spans and events from the emitters and makes them durable.

Everything that ends is put on a ``SimpleQueue`` (safe inside garbage collection); ``pump`` encodes what is there and
delivers it in one go. The guard pumps before the response leaves, our helpers when they exit outside a request, and a
background thread takes plain OpenTelemetry spans that end outside a request.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from otel_audit import provider
from otel_audit.attributes import SERVICE_NAME
from otel_audit.conf import conf
from otel_audit.edges import caught, edge
from otel_audit.exceptions import SpoolError
from otel_audit.locks import holds, is_waited_for_here
from otel_audit.scope import Note
from otel_audit_exporters import alarm
from otel_audit_exporters.accounts import DATABASE, books_are_held_here
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.direct import DirectWriter
from otel_audit_exporters.directory import directory_problem
from otel_audit_exporters.draining import Draining, Target, spool_target
from otel_audit_exporters.envelope import (
    Record,
    encode_event,
    encode_events,
    encode_intent,
    encode_request,
    encode_span,
    parse,
    seal,
)
from otel_audit_exporters.losses import REFUSED
from otel_audit_exporters.pump_thread import PumpThread
from otel_audit_exporters.quarantine import put_aside
from otel_audit_exporters.receipt import DURABLE_S, SETTLED, Receipt
from otel_audit_exporters.self_metrics import count_dropped, count_quarantined, observe
from otel_audit_exporters.sinks import passed_by
from otel_audit_exporters.spool import SpoolWriter
from otel_audit_exporters.standing import standing, uses_spool
from otel_audit_exporters.writer import Outcome, store

__all__ = ["Pipeline", "pipeline"]

#: Records kept in memory while neither spool nor database takes them; the oldest is counted as lost beyond.
MAX_HELD: Final = 10_000
#: At the end of a process the drain gets this many seconds; what is left waits in the spool for the next one.
EXIT_DRAIN_S: Final = 1.0

Encode = Callable[[], Iterable[Record]]


class Pipeline:
    """Delivers records as ``OTEL_AUDIT["DELIVERY"]`` says; implements `otel_audit.delivery.Delivery`."""

    def __init__(self) -> None:
        self._captures: list[list[dict[str, Any]]] = []
        self._reset()

    def _reset(self) -> None:
        self._queue: SimpleQueue[Encode] = SimpleQueue()
        # Re-entrant, as a signal handler may record something while its own thread holds them.
        self._pump_lock = threading.RLock()
        self._pumping: int | None = None
        self._writer_lock = threading.RLock()
        self._pumper = PumpThread(self.pump, lambda: bool(self._held))
        self._spool: SpoolWriter | None = None
        self._spool_target: Target | None = None
        self._draining = Draining(self.store)
        self._appended = 0
        #: The requests that are open, and which spool knows of them, by record id.
        self._intents: dict[str, SpoolWriter] = {}
        self._at_request = False
        self._held: deque[Record] = deque()
        #: Requests that the policy left out, where there is no spool to count them in.
        self._excluded: Counter[str] = Counter()
        self._direct = DirectWriter(self.write)
        self._service: str | None = None
        self._resource: Resource | None = None
        self.counts: Counter[str] = Counter()

    # ── called by emitters ──────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start draining this spool directory, which also brings in what an earlier process left.

        A drainer that runs already is looked after whenever a record is appended.
        """
        if self._draining.sinks is None and conf.drain == "thread" and uses_spool():
            with edge("pipeline.start"):
                self._draining.begin()

    def listening(self) -> bool:
        """Whether a record goes anywhere: into a store, or into an open `capture`."""
        now = conf.now()
        return bool(now.ENABLED) and (bool(self._captures) or conf.delivery_by(now) != "memory")

    def intend(
        self, record_id: str, started_ns: int, facts: Mapping[str, Any], context: SpanContext | None
    ) -> Receipt | None:
        """Spool that a request begins, so that it leaves a row even if it kills this process; None when that failed.

        Its own record completes it, and so does `withdraw`. Under memory delivery there is nothing to do.
        """
        if not uses_spool():
            return SETTLED
        try:
            record = encode_intent(record_id, started_ns, facts, context, self.service_name)
            writer = self._writer(spool_target())
            ticket = writer.intend(record)
        except Exception as error:  # whatever the reason: the caller decides whether to go on without
            raise_alarm("intent", 1, error)
            return None
        self._intents[record_id] = writer
        return Receipt(writer, ticket) if writer.is_synchronous else SETTLED

    def withdraw(self, record_id: str) -> None:
        """Let an intent vanish: its request has ended and leaves no record."""
        writer = self._intents.pop(record_id, None)
        if writer is not None:
            with edge("pipeline.withdraw"):
                writer.complete(record_id)

    def refused(self) -> None:
        """Count a request that was refused as its intent could not be stored."""
        with edge("pipeline.refused"):
            self._writer(spool_target()).record_loss({REFUSED: 1})

    def excluded(self, by: str) -> None:
        """Count a request that the policy leaves out."""
        if not uses_spool():
            with self._writer_lock:
                self._excluded[by] += 1
            return
        try:
            self._writer(spool_target()).exclude(by)
        except SpoolError as error:
            raise_alarm("excluded", 1, error)

    def request(
        self,
        span: ReadableSpan,
        record_id: str,
        facts: Mapping[str, Any],
        events: Sequence[tuple[str, Mapping[str, Any]]],
    ) -> Receipt:
        """Deliver a finished request with its sign-ins, and whatever else has ended."""
        service = self.service_name
        context = span.get_span_context()
        ids = {"request": record_id, "process": None, "step": None}

        def encode() -> Iterator[Record]:
            try:
                yield encode_request(span, record_id, facts, service)
            except Exception:
                if record_id not in self._intents:  # else that leaves a row
                    self._lose("encode", 1)
                caught("pipeline.encode_request")
            for event_id, event in events:
                yield encode_event("login", event_id, ids, event, context, service)
            yield from encode_events(span, record_id, ids, facts.get("actor"), service)

        self._enqueue(encode)
        return self.pump(at_request=True)

    def event(
        self,
        kind: str,
        record_id: str,
        ids: Mapping[str, str | None],
        facts: Mapping[str, Any],
        note: Note | None,
        context: SpanContext | None,
    ) -> None:
        """Queue one sign-in or registration; the actor is who acts when it is delivered."""
        service = self.service_name

        def encode() -> Iterator[Record]:
            actor = note.actor() if note is not None else None
            named = (actor.id, actor.name, actor.type) if actor is not None else None
            yield encode_event(kind, record_id, ids, {"actor": named, **facts}, context, service)

        self._enqueue(encode)
        self._after_queueing(note)

    def span_started(self, note: Note) -> None:
        """Make sure that a span which ends outside a request finds the thread that takes it."""
        if (note.scope is None or note.scope.finished) and self._pumper.thread is None:
            self._pumper.start()

    def span_ended(self, span: ReadableSpan, note: Note) -> None:
        """Queue a finished span. Takes no lock: garbage collection may call it."""
        self._enqueue(lambda: encode_span(span, note, self.service_name))
        if self._pumper.thread is not None and (note.scope is None or note.scope.finished):
            self._pumper.ask()

    def events_ended(self, span: ReadableSpan, enclosing: Note) -> None:
        """Queue the audit events of an ordinary span that ended inside what ``enclosing`` says. Takes no lock."""
        if not self.listening():
            return

        def encode() -> Iterable[Record]:
            ids = {"request": enclosing.request_id, "process": enclosing.process_id, "step": enclosing.step_id}
            actor = enclosing.actor()
            named = None if actor is None else (actor.id, actor.name, actor.type)
            context = span.get_span_context()
            owner = f"{context.trace_id:032x}{context.span_id:016x}" if context is not None else ""
            return encode_events(span, owner, ids, named, self.service_name)

        self._enqueue(encode)
        if enclosing.scope is None or enclosing.scope.finished:
            self._pumper.start(wait=False)
            self._pumper.ask()

    def receive(self, records: list[Record]) -> None:
        """Store what another service has sent, all of it when this returns. When it raises, it has to be sent again.

        Raises:
            OTelAuditError: neither the spool nor, under synchronous delivery, the database takes it.
        """
        if conf.delivery == "memory":
            self._keep(records)
        elif conf.delivery == "sync":
            self._write_now(records)
        else:
            target = spool_target()
            writer = self._writer(target)
            ticket = writer.append(records)
            self._draining.keep_on(target)
            if writer.is_synchronous:
                writer.wait_durable(ticket, DURABLE_S)

    def _enqueue(self, encode: Encode) -> None:
        """Queue what somebody will get. Left over from a site's tests, it would go to the real trail when they end."""
        if self.listening():
            self._queue.put(encode)

    def pump(self, *, at_request: bool = False) -> Receipt:
        """Deliver every record that was queued before this call; what is returned says when they are durable.

        Args:
            at_request: the caller's thread serves a request, so that Django looks after its connections.
        """
        inside = self._is_inside_a_lock()
        if inside or self._pumping == threading.get_ident():
            # A receiver or log handler of the site, called by us, records something, or garbage collection does.
            self._pumper.start(wait=not inside)
            self._pumper.ask()
            return SETTLED
        try:
            with self._pump_lock:
                return self._pump(at_request)
        except Exception:
            caught("pipeline.pump")
        return SETTLED

    def _pump(self, at_request: bool) -> Receipt:
        self._pumping, self._at_request = threading.get_ident(), at_request
        records: list[Record] = []
        try:
            delivery = conf.delivery  # before anything leaves the queue: if this fails, it is all there still
            records = self._encode_queued()
            if records or self._held:
                self._deliver(records, delivery)
            if self._spool is not None and self._spool.is_synchronous:
                return Receipt(self._spool, self._appended)
        except Exception:
            if records and delivery != "memory":
                self._held.extend(records)  # a bug of ours: it costs no record that is captured
            raise
        finally:
            self._pumping = None
        return SETTLED

    def _is_inside_a_lock(self) -> bool:
        """Whether this thread holds a lock of ours, or one that may hold them waits for this one.

        Garbage collection has ended something there, or a signal handler has. To wait for the thread that delivers
        would be for ever, as that one may wait for this lock.
        """
        locks = self._spool.locks if self._spool is not None else ()
        return (
            holds(self._pumper.lock, self._draining.lock, self._writer_lock, alarm.lock, provider.lock, *locks)
            or books_are_held_here()
            or is_waited_for_here()
        )

    def flush(self, timeout: float) -> int:
        """Wait until every sink has all records, ``timeout`` seconds at most; return how many are left.

        Raises:
            SpoolError: records of this process are in a spool that cannot be read now, or is gone.
        """
        self.pump()
        if self._pumping == threading.get_ident():
            return len(self._held)
        with self._pump_lock:  # while another thread delivers what was held, nothing is
            left = len(self._held)
        if not uses_spool() and self._spool is None:
            return left
        try:
            return left + self._draining.drain(timeout)
        except SpoolError:
            spool = self._spool
            if spool is not None and spool.records and self._spool_target == spool_target():
                raise
            return left  # whatever is in there, it was not put there here

    def drain(self, timeout: float) -> int:
        """Bring in what lies in the spool directory, ``timeout`` seconds at most; return how many records are left.

        Raises:
            SpoolError: the directory is not there, or cannot be used or read.
        """
        return self._draining.drain(timeout) if uses_spool() else 0

    def status(self) -> dict[str, Any]:
        """Return what became of the records; under ``"spool"`` those of every process that shares the directory.

        ``captured`` is always ``stored + pending + quarantined + lost``. Of the pending ones ``held`` are in the memory
        of this process, as neither spool nor database takes them. Apart from all that, ``refused`` counts requests
        that got 503 as their intent could not be stored, and ``oldest_pending_s`` says for how many seconds the record
        has been in the spool that waits longest, None where none waits. ``excluded`` counts requests that the policy
        left out, ``excluded_by`` the same by what of it says so.
        """
        return standing(len(self._held), self.counts, self._excluded, self._spool)

    def shutdown(self) -> int:
        """Deliver what is queued, give the drain a moment and close the stream; return how many records are left."""
        with edge("pipeline.shutdown"):
            self.pump()
            left = len(self._held)
            if self._spool is not None:
                self._spool.close()
            return left + self._draining.end(EXIT_DRAIN_S)
        return len(self._held)

    # ── storing ─────────────────────────────────────────────────────────────────────────────────

    def write(self, payloads: Sequence[bytes]) -> Outcome:
        """Write sealed records at once, whatever ``DELIVERY`` says, putting aside what is refused."""
        outcome = self.store(payloads)
        self.counts["written"] += outcome.stored
        self._put_aside(payloads, outcome)
        return outcome

    def store(self, payloads: Sequence[bytes]) -> Outcome:
        """Map and write sealed records to the audit database: the drain's sink."""
        return store(payloads, conf.database)

    @contextmanager
    def capture(self) -> Iterator[list[dict[str, Any]]]:
        """Collect the envelopes of everything recorded inside the block; see `otel_audit.testing.capture`."""
        captured: list[dict[str, Any]] = []
        self.pump()  # what was recorded before the block is not of it
        self._captures.append(captured)
        try:
            yield captured
            self.pump()
        finally:
            # By identity: another capture may have taken the same records.
            self._captures = [other for other in self._captures if other is not captured]

    def set_resource(self, resource: Resource) -> None:
        """Take the resource of the site's tracer provider: it names the service."""
        self._resource = resource
        self._service = None
        observe(self._emitted, self._depths)

    @property
    def service_name(self) -> str:
        """Name of this service: the setting, else the resource of the site's tracer provider."""
        if (configured := conf.now().SERVICE_NAME) is not None:
            return str(configured)
        if self._service is None:
            resource = self._resource or Resource.create()
            self._service = str(resource.attributes.get(SERVICE_NAME, ""))
        return self._service

    def _encode_queued(self) -> list[Record]:
        records: list[Record] = []
        for _ in range(self._queue.qsize()):
            encode = self._queue.get_nowait()
            try:
                records.extend(encode())
            except Exception:
                self._lose("encode", 1)
                caught("pipeline.encode")
        return records

    def _deliver(self, records: list[Record], delivery: str) -> None:
        if delivery == "memory" or self._captures:
            self._keep(records)
            if delivery == "memory":
                return
        if self._held:
            records = [*self._held, *records]
            self._held.clear()
        if not records:
            return
        ways = (self._append, self._write_now) if delivery == "spool" else (self._write_now, self._append)
        failure: Exception | None = None
        for way in ways:
            try:
                way(records)
            except Exception as error:  # any failure means: try the other way, then hold
                failure = error
                raise_alarm(way.__name__.strip("_"), len(records), error)
            except BaseException:  # a server's signal handler wants the process to end, not the records
                self._held.extend(records)
                raise
            else:
                if self._intents:
                    for record in records:
                        self.withdraw(record.id)  # only where the way was not the spool that knows of it
                return
        self._hold(records, failure)

    def _append(self, records: list[Record]) -> None:
        target = spool_target()
        self._appended = self._writer(target).append(records)
        self._draining.keep_on(target)

    def _write_now(self, records: list[Record]) -> None:
        observed = datetime.now(UTC).isoformat(timespec="microseconds")
        self._direct.write([seal(record, "", 0, observed) for record in records], at_request=self._at_request)
        passed_by(len(records))

    def _hold(self, records: list[Record], failure: Exception | None) -> None:
        self._held.extend(records)
        lost = 0
        while len(self._held) > MAX_HELD:
            lost += self._held.popleft().id not in self._intents  # else the intent leaves a row
        self._pumper.start()
        if threading.current_thread() is not self._pumper.thread:  # which tries again later, not at once
            self._pumper.ask()
        raise_alarm("held", len(records), f"Neither spool nor database takes them; {lost} are lost. ({failure})")
        if lost:
            self._lose("memory full", lost)

    def _lose(self, reason: str, count: int) -> None:
        count_dropped(reason, count)
        if self._spool is not None and self._appended:
            self._spool.record_loss({reason: count})
        else:  # there is no file yet that could hold the count
            self.counts["lost"] += count

    def _put_aside(self, payloads: Sequence[bytes], outcome: Outcome) -> None:
        """Quarantine what the audit database will never take as it is, with an alarm each."""
        if outcome.rejections:
            count_quarantined(DATABASE, [rejection.reason for rejection in outcome.rejections])
        for rejection in outcome.rejections:
            raise_alarm(rejection.reason, 1, rejection.error)
            problem = directory_problem(conf.spool_dir)
            if problem is not None:
                raise_alarm("quarantine", 1, problem)
                self._lose(rejection.reason, 1)
                continue
            put_aside(conf.spool_dir, conf.fingerprint, payloads[rejection.index], rejection.reason, rejection.error)
            self.counts["put aside"] += 1  # as the books say, too

    def _keep(self, records: list[Record]) -> None:
        observed = datetime.now(UTC).isoformat(timespec="microseconds")
        for captured in self._captures:
            start = len(captured)
            captured.extend(
                parse(seal(record, "memory", start + number, observed)) for number, record in enumerate(records, 1)
            )

    def _writer(self, target: Target) -> SpoolWriter:
        if self._spool_target == target and self._spool is not None:
            return self._spool
        with self._writer_lock:  # who pumps and who begins a request may ask at the same time
            if self._spool is None or self._spool_target != target:
                if self._spool is not None:
                    self._spool.close()
                self._spool = SpoolWriter(conf.spool_dir, conf.fingerprint, conf.spool_max_bytes, fsync=conf.fsync)
                self._spool_target = target  # last, as it is asked without the lock
            return self._spool

    # ── threads ─────────────────────────────────────────────────────────────────────────────────

    def _after_queueing(self, note: Note | None) -> None:
        """Inside a request the guard pumps; outside one the record is appended at once."""
        if note is None or note.scope is None or note.scope.finished:
            self.pump().wait()

    def _emitted(self) -> int:
        """Return how many records this process has captured, for a reader of metrics; it begins anew with a spool."""
        beside = sum(self.counts[key] for key in ("written", "put aside", "lost")) + len(self._held)
        return beside + (self._spool.records if self._spool is not None else 0)

    def _depths(self) -> list[tuple[str, int]]:
        sinks = self._draining.sinks
        return list(sinks.depths()) if sinks is not None else []

    def after_fork_in_child(self) -> None:
        """Start anew in a forked child: the parent's threads do not exist here, its queue and spool are not ours."""
        spool = self._spool
        self._reset()
        if spool is not None:
            spool.after_fork_in_child()


pipeline: Final = Pipeline()
os.register_at_fork(after_in_child=pipeline.after_fork_in_child)
atexit.register(pipeline.shutdown)
