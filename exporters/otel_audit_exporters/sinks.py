"""Where the records of the spool go: always into the audit database, and to a collector where the site asks for it.

A drainer for each; here they are started, waited for and stopped together, side by side.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from otel_audit.conf import conf
from otel_audit.locks import starting
from otel_audit_exporters import quarantine
from otel_audit_exporters.accounts import DATABASE, pending
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.backlog import Backlog
from otel_audit_exporters.drain import Drainer
from otel_audit_exporters.otlp_sink import CollectorSink
from otel_audit_exporters.self_metrics import count_dropped
from otel_audit_exporters.writer import Outcome

__all__ = ["COLLECTOR", "Sinks", "forwards_durably", "passed_by", "retry_quarantined", "sink_names", "sinks_status"]

#: The sink that sends to a collector.
COLLECTOR: Final = "otlp"
#: A span may be at the collector a little later than its row in the database, for the price of fewer requests.
COLLECTOR_POLL_S: Final = 0.25

Deliver = Callable[[Sequence[bytes]], Outcome]


def forwards_durably() -> bool:
    """Whether the spool is also sent to a collector."""
    configured = conf.otlp
    return configured is not None and configured.get("durable") is True and conf.delivery == "spool"


def sink_names() -> tuple[str, ...]:
    """Return the sinks that a segment of the spool waits for; the one that keeps the books first."""
    return (DATABASE, COLLECTOR) if forwards_durably() else (DATABASE,)


def sinks_status(problem: str | None) -> dict[str, int]:
    """Return, for `otel_audit.status`, what became of the records at the collector, where the spool goes there."""
    if not forwards_durably() or problem is not None:
        return {}
    found = pending(conf.spool_dir, conf.fingerprint, COLLECTOR)
    return {f"{COLLECTOR}_{key}": found[key] for key in ("stored", "pending", "quarantined", "lost")}


def passed_by(count: int) -> None:
    """Say that records were written to the database past the spool: they never get to the collector."""
    if forwards_durably():
        count_dropped("past the spool", count, COLLECTOR)
        raise_alarm("dropped", count, "Records that the spool did not take are not forwarded.")


def retry_quarantined(store: Deliver) -> int:
    """Try again what a sink has refused; return how many records left the quarantine.

    Raises:
        RetryLaterError: a sink takes nothing now; what was taken before has left.
    """
    retried = quarantine.retry(conf.spool_dir, conf.fingerprint, store)
    if forwards_durably():
        collector = CollectorSink()
        try:
            retried += quarantine.retry(conf.spool_dir, conf.fingerprint, collector, COLLECTOR)
        finally:
            collector.close()
    return retried


class Sinks:
    """The drainers of this site's spool directory, as the settings are now.

    Args:
        store: maps and writes sealed records to the audit database.
    """

    def __init__(self, store: Deliver) -> None:
        names = sink_names()
        self._collector = CollectorSink() if COLLECTOR in names else None
        sinks: list[tuple[str, Deliver, str | None, float | None]] = [(DATABASE, store, conf.database, None)]
        if self._collector is not None:
            sinks.append((COLLECTOR, self._collector, None, COLLECTOR_POLL_S))
        directory, fingerprint = conf.spool_dir, conf.fingerprint
        self._drainers = [
            Drainer(
                directory,
                fingerprint,
                deliver,
                sink=sink,
                sinks=names,
                database=database,
                poll=poll,
                limit=conf.spool_max_bytes,
            )
            for sink, deliver, database, poll in sinks
        ]
        self._backlogs = [Backlog(directory, fingerprint, sink) for sink, *_ in sinks]
        self._names = names

    def start(self) -> None:
        """Start the background threads.

        Raises:
            SpoolError: the directory cannot be used; the message says how to fix it.
        """
        for drainer in self._drainers:
            drainer.start()

    def stop(self, timeout: float) -> int:
        """Ask the threads to end, wait ``timeout`` seconds at most; return how many records a sink has not got yet."""
        deadline = time.monotonic() + timeout
        for drainer in self._drainers:
            drainer.ask_to_stop()
        left = max(drainer.stop(max(0.0, deadline - time.monotonic())) for drainer in self._drainers)
        if self._collector is not None and not self._drainers[-1].is_running:
            self._collector.close()
        return left

    def run_until_empty(self, timeout: float) -> int:
        """Deliver what is in the spool, for ``timeout`` seconds at most; return how many records a sink has not got.

        A sink that is away takes none of the time of another.
        """
        deadline = time.monotonic() + timeout
        first, *others = self._drainers
        beside = [
            threading.Thread(target=drainer.run_until_empty, args=(timeout,), daemon=True)
            for drainer in others
            if not drainer.is_running  # else it has a thread
        ]
        for thread in beside:
            with starting():
                thread.start()
        first.run_until_empty(timeout)
        for thread in beside:
            thread.join(max(0.0, deadline - time.monotonic()))
        for drainer in others:
            if drainer.is_running:
                drainer.run_until_empty(max(0.0, deadline - time.monotonic()))
        return max(drainer.left() for drainer in self._drainers)

    def depths(self) -> Iterator[tuple[str, int]]:
        """Yield, for each sink that this process serves, how many records wait for it."""
        for name, drainer, backlog in zip(self._names, self._drainers, self._backlogs, strict=True):
            if drainer.is_holder:
                yield name, backlog.count()
