"""How many spans a second one receiver takes over HTTP and stores in PostgreSQL.

The receiver is the program ``manage.py otel_audit receive``, in a process of its own; PostgreSQL and the senders share
the machine with it. What is sent is what a Collector's ``otlp_http`` exporter sends: protobuf, gzip, connections that
stay open. A run is over when every row is in the database, so the figure is the slower one of taking and storing.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SPANS = 20_000
ROUNDS = 3
BATCHES = (100, 500)
CONNECTIONS = 4
WANTED = "≥ 3,000 spans/s"
#: So long after the last answer all rows must be there.
STORED_S = 120.0
HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}


def table() -> str:
    """Measure, and return the figures as a Markdown table."""
    from tests import engines

    lines = ["| Receiver, PostgreSQL | taken | stored | CPU of the receiver | wanted |", "|---|---|---|---|---|"]
    try:
        for kind in KINDS:
            for batch in BATCHES:
                with engines.postgresql() as server, tempfile.TemporaryDirectory(prefix="otel-audit-bench-") as name:
                    database = {**server.database, "NAME": "receiving"}
                    engines.create_database(database)
                    rounds = [*_rounds(Path(name), database, kind, batch)][1:]  # the first one warms up
                lines.append(_line(kind, batch, rounds))
    except engines.MissingServer as missing:
        lines.append(f"| not measured: {missing} | | | | {WANTED} |")
    return "\n".join(lines)


def _line(kind: str, batch: int, rounds: Sequence[dict[str, float]]) -> str:
    best = max(rounds, key=lambda found: found["stored"])
    figures = " | ".join(
        f"{best[name]:,.0f} spans/s ({min(found[name] for found in rounds):,.0f} to "
        f"{max(found[name] for found in rounds):,.0f})"
        for name in ("taken", "stored")
    )
    return f"| {kind}, {batch} spans a request | {figures} | {best['cpu_us']:.0f} µs a span | {WANTED} |"


# ── one receiver ────────────────────────────────────────────────────────────────────────────────


def _rounds(directory: Path, database: dict[str, Any], kind: str, batch: int) -> Iterator[dict[str, float]]:
    environment = {**os.environ, "BENCHMARK_RECEIVER": json.dumps([str(directory), database])}
    _manage(environment, "migrate", "--verbosity", "0")
    token = _manage(environment, "otel_audit", "token", "create", "--service", "shop")
    headers = {**HEADERS, "Authorization": f"Bearer {token.splitlines()[-1]}"}
    with socket.create_server(("127.0.0.1", 0)) as listener, _receiver(environment, listener) as pid:
        for number in range(ROUNDS + 1):
            bodies = [gzip.compress(body) for body in requests(kind, batch, number)]
            yield _round(listener.getsockname()[1], headers, bodies, pid, database, (number + 1) * SPANS)


def _round(
    port: int, headers: dict[str, str], bodies: list[bytes], pid: int, database: dict[str, Any], rows: int
) -> dict[str, float]:
    cpu, began = _cpu_s(pid), time.perf_counter()
    _send(port, headers, bodies)
    taken = time.perf_counter() - began
    while _rows(database) < rows:
        if time.perf_counter() - began > taken + STORED_S:
            raise RuntimeError(f"only {_rows(database)} of {rows} rows are stored")
        time.sleep(0.05)
    stored = time.perf_counter() - began
    return {"taken": SPANS / taken, "stored": SPANS / stored, "cpu_us": (_cpu_s(pid) - cpu) / SPANS * 1e6}


def _send(port: int, headers: dict[str, str], bodies: list[bytes]) -> None:
    """Send all, by as many connections as a Collector has consumers of its queue."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for body in bodies:
        waiting.put(body)
    failures: list[str] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not failures:
            try:
                body = waiting.get_nowait()
            except queue.Empty:
                break
            connection.request("POST", "/v1/traces", body, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                failures.append(f"the receiver answered {answer.status}: {said!r}")
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(failures[0])


@contextmanager
def _receiver(environment: dict[str, str], listener: socket.socket) -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.receiver", "otel_audit", "receive", "--bind"]
    process = subprocess.Popen(
        [*command, f"fd://{listener.fileno()}"],
        env=environment,
        pass_fds=[listener.fileno()],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def _manage(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.receiver", *arguments]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rows(database: dict[str, Any]) -> int:
    """Return how many rows the five tables have."""
    import psycopg

    tables = [f"otel_audit_{name}auditevent" for name in ("request", "process", "step", "registration", "login")]
    counted = " + ".join(f"(SELECT count(*) FROM {table})" for table in tables)
    where = {"host": database["HOST"], "port": database["PORT"], "user": database["USER"], "dbname": database["NAME"]}
    with psycopg.connect(**where) as connection:
        return int(connection.execute(f"SELECT {counted}").fetchone()[0])  # type: ignore[index,arg-type]


# ── what is sent ────────────────────────────────────────────────────────────────────────────────


def requests(kind: str, batch: int, number: int) -> Iterator[bytes]:
    """Yield the bodies of ``SPANS`` spans, each of which becomes a row; ``number`` makes them other ones each time."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for first in range(0, SPANS, batch):
        request = ExportTraceServiceRequest()
        resource_spans = request.resource_spans.add()
        _attribute(resource_spans.resource, "service.name", "shop")
        _attribute(resource_spans.resource, "telemetry.sdk.language", "go")
        spans = resource_spans.scope_spans.add().spans
        for index in range(first, first + batch):
            KINDS[kind](spans, index, f"{number + 1:08x}{index:08x}")
        yield request.SerializeToString()


def _http_span(spans: Any, index: int, name: str) -> None:
    span = _span(spans, "GET /api/products/{id}", name)
    span.kind = 2
    for key, value in {
        "http.request.method": "GET",
        "http.route": "/api/products/{id}",
        "http.response.status_code": 200,
        "url.scheme": "https",
        "url.path": f"/api/products/{index}",
        "url.query": "page=1",
        "server.address": "shop.example",
        "server.port": 443,
        "client.address": "192.0.2.17",
        "network.protocol.version": "1.1",
        "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "audit.actor.id": str(index % 1000),
        "user.name": f"user-{index % 1000}",
    }.items():
        _attribute(span, key, value)


def _process_span(spans: Any, index: int, name: str) -> None:
    """Every fourth span is a process, the others are its steps."""
    process = f"{index - index % 4:016x}"
    is_step = index % 4 > 0
    span = _span(spans, "Validate" if is_step else "Create product", name)
    span.trace_id = bytes.fromhex(name[:8] + "0" * 8 + process)
    if is_step:
        span.parent_span_id = bytes.fromhex(name[:8] + process[8:])
    _attribute(span, "audit.kind", "step" if is_step else "process")
    _attribute(span, "audit.actor.id", str(index % 1000))
    _attribute(span, "sku", f"sku-{index}")


KINDS = {"HTTP requests": _http_span, "processes with three steps": _process_span}


def _span(spans: Any, name: str, identity: str) -> Any:
    span = spans.add()
    span.name = name
    span.trace_id, span.span_id = bytes.fromhex(identity * 2), bytes.fromhex(identity)
    span.start_time_unix_nano = time.time_ns() - 5_000_000
    span.end_time_unix_nano = time.time_ns()
    return span


def _attribute(holder: Any, key: str, value: str | int) -> None:
    attribute = holder.attributes.add()
    attribute.key = key
    if isinstance(value, int):
        attribute.value.int_value = value
    else:
        attribute.value.string_value = value


def main() -> None:
    """Be the ``manage.py`` of the site that receives."""
    from django.conf import settings
    from django.core.management import execute_from_command_line

    directory, database = json.loads(os.environ["BENCHMARK_RECEIVER"])
    settings.configure(
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "otel_audit", "otel_audit.receiver"],
        DATABASES={"default": database},
        OTEL_AUDIT={"SPOOL_DIR": f"{directory}/spool"},
        MIDDLEWARE=["otel_audit.middleware.AuditMiddleware"],
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
