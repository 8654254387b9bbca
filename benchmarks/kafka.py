"""How many spans a second go over Kafka into PostgreSQL: Collector, Kafka, Collector and one receiver, on one machine.

The programs are those of ``make engines``, with ``kafka-in.yaml`` and ``kafka-out.yaml`` as they stand and three
partitions; what is sent is as in `benchmarks.receiver`. A round is over when every row is in the database. What reads
from Kafka runs beside it, or is started when Kafka has everything, as after an outage.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import receiver

ROUNDS = 3
BATCH = 500
KIND = "HTTP requests"


def table() -> str:
    """Measure, and return the figures as a Markdown table."""
    from tests import engines
    from tests.e2e.engines import build

    lines = [f"| {KIND}, {BATCH} spans a request | taken by Kafka | stored |", "|---|---|---|"]
    try:
        for name in ("kafka", "collector"):
            build.program(name)
        with engines.postgresql() as server, tempfile.TemporaryDirectory(prefix="otel-audit-bench-") as name:
            database = {**server.database, "NAME": "receiving"}
            engines.create_database(database)
            with _route(Path(name), database) as route:
                for said, waits in (("read while it comes", False), ("read when all is there", True)):
                    rounds = [route.round(waits) for _ in range(ROUNDS + 1)][1:]  # the first one warms up
                    lines.append(f"| {said} | {_range(rounds, 'taken')} | {_range(rounds, 'stored')} |")
    except (engines.MissingServer, build.MissingProgram) as missing:
        lines.append(f"| not measured: {missing} | | |")
    return "\n".join(lines)


class _Route:
    """What is running; ``spans`` have been sent."""

    def __init__(self, folder: Path, database: dict[str, Any], broker: Any, into: Any, audit: dict[str, str]) -> None:
        self._folder, self._database, self._audit = folder, database, audit
        self._broker, self._port = broker, int(into.endpoint.rpartition(":")[2].partition("/")[0])
        self._rounds = 0

    def round(self, waits: bool) -> dict[str, float]:
        """Send a round's spans; return spans a second into Kafka, and rows: from the first one on, if they waited."""
        self._rounds += 1
        bodies = [gzip.compress(body) for body in receiver.requests(KIND, BATCH, self._rounds)]
        if waits:
            taken = self._send(bodies)
            with self._reading():
                before = self._wait_for(1)  # it takes seconds to join the group of readers
                began = time.perf_counter()
                return self._figures(taken, self._wait_for(receiver.SPANS) - before, began)
        with self._reading():
            began = time.perf_counter()
            return self._figures(self._send(bodies), self._wait_for(receiver.SPANS), began)

    def _send(self, bodies: list[bytes]) -> float:
        """Return the seconds until Kafka has it."""
        began = time.perf_counter()
        receiver._send(self._port, receiver.HEADERS, bodies)
        return time.perf_counter() - began

    def _reading(self) -> Any:
        from tests.e2e.engines.running import collector

        folder = self._folder / f"out-{self._rounds}"
        folder.mkdir()
        return collector("kafka-out.yaml", folder, {**self._broker.environment, **self._audit})

    def _wait_for(self, rows: int) -> int:
        """Return how many rows of this round there are, when there are so many."""
        began = time.perf_counter()
        while (found := receiver._rows(self._database) - (self._rounds - 1) * receiver.SPANS) < rows:
            if time.perf_counter() - began > receiver.STORED_S:
                raise RuntimeError(f"only {found} rows of round {self._rounds}")
            time.sleep(0.05)
        return found

    def _figures(self, taken: float, rows: int, began: float) -> dict[str, float]:
        return {"taken": receiver.SPANS / taken, "stored": rows / (time.perf_counter() - began)}


@contextmanager
def _route(folder: Path, database: dict[str, Any]) -> Iterator[_Route]:
    from tests.e2e.engines.broker import broker
    from tests.e2e.engines.running import collector, reachable

    environment = {**os.environ, "BENCHMARK_RECEIVER": json.dumps([str(folder), database])}
    receiver._manage(environment, "migrate", "--verbosity", "0")
    token = receiver._manage(environment, "otel_audit", "token", "create", "--service", "shop").splitlines()[-1]
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        receiver._receiver(environment, listener),
        broker(folder / "kafka") as running,
        collector("kafka-in.yaml", folder, running.environment) as into,
    ):
        audit = {"AUDIT_ENDPOINT": reachable(listener), "AUDIT_TOKEN": token}
        yield _Route(folder, database, running, into, audit)


def _range(rounds: list[dict[str, float]], name: str) -> str:
    found = sorted(figures[name] for figures in rounds)
    return f"{found[-1]:,.0f} spans/s ({found[0]:,.0f} to {found[-1]:,.0f})"
