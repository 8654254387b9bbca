"""What delivering records costs: handing one over, draining them, waiting for the disk, an audit database that is away.

Each measurement runs in a process of its own, as a site is one: ``python -m benchmarks.delivery NAME`` prints a JSON
object. The drain into PostgreSQL starts a server of its own and is left out where its programs are missing.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from otel_audit_exporters.envelope import Record
    from otel_audit_exporters.spool import SpoolWriter

HANDED_OVER = 20_000
DRAINED = 30_000
AWAY = 100_000
THREADS, EACH = 64, 40
#: Seconds between two records of a thread: 64 threads make 1,000 a second then.
THINK_S = 0.064
SYNCS = 300
#: How long a sync of the steady disk takes.
STEADY_S = 0.002
FINGERPRINT = "0123456789abcdef"


def table() -> str:
    """Measure everything and return the figures as a Markdown table."""
    lines = ["| Delivery | measured | wanted |", "|---|---|---|"]
    for name in MEASUREMENTS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.delivery", name], stdout=subprocess.PIPE, text=True, check=True
        )
        lines += [f"| {label} | {figure} | {wanted} |" for label, figure, wanted in json.loads(done.stdout)]
    return "\n".join(lines)


def hand_over(directory: Path) -> list[tuple[str, str, str]]:
    """Measure what a request waits for once its record is built: until it is in the spool, ``FSYNC="interval"``."""
    set_up(directory, {"DRAIN": "external"})
    from otel_audit_exporters.pipeline import pipeline

    taken = []
    for number in range(HANDED_OVER):
        record = request_record(number)
        began = time.perf_counter()
        pipeline._enqueue(lambda record=record: [record])  # type: ignore[misc]  # the queue takes any such function
        pipeline.pump(at_request=True)
        taken.append((time.perf_counter() - began) * 1e6)
    figure = f"{statistics.median(taken):.1f} µs, p99 {percentile(taken, 99):.0f} µs"
    return [('hand-over of one record, `"interval"`, median', figure, "≤ 15 µs")]


def drain(directory: Path, database: dict[str, Any] | None = None) -> list[tuple[str, str, str]]:
    """Measure how many rows of requests a second one drainer stores that has nothing else to do."""
    set_up(directory, {}, database)
    from django.core.management import call_command

    from otel_audit_exporters.drain import Drainer
    from otel_audit_exporters.writer import store

    call_command("migrate", verbosity=0)
    writer = spool_writer(directory)
    for first in range(0, DRAINED, 500):
        writer.append([request_record(number) for number in range(first, first + 500)])
    writer.close()
    drainer = Drainer(directory / "spool", FINGERPRINT, lambda found: store(found, "default"), database="default")

    wall, cpu = time.perf_counter(), time.process_time()
    left = drainer.run_until_empty(600)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

    assert left == 0
    engine = "SQLite" if database is None else "PostgreSQL"
    figure = f"{DRAINED / wall:,.0f} rows/s; {cpu / DRAINED * 1e6:.0f} µs of CPU a row"
    return [(f"drain, {engine}", figure, "≥ 5,000 rows/s")]


def drain_postgresql(directory: Path) -> list[tuple[str, str, str]]:
    """Measure the same with PostgreSQL, whose server works on the other core."""
    from tests import engines

    try:
        with engines.postgresql() as server:
            database = {**server.database, "NAME": "delivery"}
            engines.create_database(database)
            return drain(directory, database)
    except engines.MissingServer as missing:
        return [("drain, PostgreSQL", f"not measured: {missing}", "≥ 5,000 rows/s")]


def away(directory: Path) -> list[tuple[str, str, str]]:
    """Measure by how much a process grows while its audit database takes nothing."""
    set_up(directory, {})
    from otel_audit_exporters.drain import Drainer
    from otel_audit_exporters.writer import RetryLaterError

    def refuse(payloads: Any) -> Any:
        raise RetryLaterError("away")

    writer = spool_writer(directory)
    drainer = Drainer(directory / "spool", FINGERPRINT, refuse)
    writer.append([request_record(0)])
    drainer.start()
    grown = []
    for upto in (AWAY // 10, AWAY):
        for number in range(upto):
            writer.append([request_record(number)])
        drainer.wake()
        grown.append(resident_mb())
    used = sum(path.stat().st_size for path in (directory / "spool").iterdir()) / 1e6
    figure = f"{grown[1] - grown[0]:+.1f} MB of memory, {used:.0f} MB of spool for {AWAY:,} records"
    drainer.stop(5)
    return [("the audit database is away", figure, "bounded: a batch, 500 records or 4 MB")]


def always(directory: Path) -> list[tuple[str, str, str]]:
    """Measure how long 64 threads wait for the disk, against a single write that is alone with it.

    Once with 1,000 records a second among them, once with as many as they can: the second says how fast Python is.
    Then the first again with a disk that always takes the same time, as a shared one hides what is ours.
    """
    set_up(directory, {})
    writer = spool_writer(directory, fsync="always")
    alone = one_sync(directory)
    busy = waits(writer, THINK_S)
    alone += one_sync(directory)
    flood = waits(writer, 0)
    alone += one_sync(directory)
    with patch.object(os, "fdatasync", lambda fd: time.sleep(STEADY_S)):
        steady, steady_alone = waits(writer, THINK_S), one_sync(directory)
    label = f'`"always"`, {THREADS} threads'
    return [
        ("one `fdatasync` of 1 KB", described(alone), ""),
        (f"{label}, 1,000 records/s", compared(busy, alone), "p99 ≤ 5 x one `fdatasync`"),
        (f"{label} without a pause", compared(flood, alone), ""),
        (f"{label}, 1,000 records/s, a disk that takes 2 ms", compared(steady, steady_alone), ""),
    ]


def waits(writer: SpoolWriter, think_s: float) -> list[float]:
    """Return how long each record took to be on the disk, in µs."""
    taken: list[float] = []
    ready = threading.Barrier(THREADS)

    def work(first: int) -> None:
        chance = random.Random(first)
        records = [request_record(number) for number in range(first, first + EACH)]
        ready.wait()
        for record in records:
            time.sleep(chance.uniform(0, 2 * think_s))
            began = time.perf_counter()
            writer.wait_durable(writer.append([record]), 30)
            taken.append((time.perf_counter() - began) * 1e6)

    threads = [threading.Thread(target=work, args=(number * EACH,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def compared(taken: list[float], alone: list[float]) -> str:
    """Return what ``taken`` says, in µs, and how often one sync ``alone`` is in the slowest of a hundred."""
    p99 = percentile(taken, 99)
    median, slowest = statistics.median(alone), percentile(alone, 99)
    return f"{described(taken)}: {p99 / median:.1f} x the median of one, {p99 / slowest:.1f} x its p99"


def described(taken: list[float]) -> str:
    """Return median and p99 of ``taken``, in µs."""
    return f"p50 {statistics.median(taken):,.0f} µs, p99 {percentile(taken, 99):,.0f} µs"


MEASUREMENTS: dict[str, Callable[[Path], list[tuple[str, str, str]]]] = {
    "hand-over": hand_over,
    "drain": drain,
    "drain-postgresql": drain_postgresql,
    "away": away,
    "always": always,
}


def set_up(directory: Path, audit: dict[str, Any], database: dict[str, Any] | None = None) -> None:
    """Make this process a site with nothing but the package."""
    import django

    sqlite = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": directory / "audit.sqlite3",
        "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"},
    }
    module = ModuleType("delivery_settings")  # not `settings.configure`, which makes a slower object than sites have
    module.INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "otel_audit"]
    module.DATABASES = {"default": database or sqlite}
    module.OTEL_AUDIT = {"SPOOL_DIR": str(directory / "spool"), **audit}
    module.USE_TZ = True
    module.LOGGING_CONFIG = None
    sys.modules[module.__name__] = module
    os.environ["DJANGO_SETTINGS_MODULE"] = module.__name__
    django.setup()


def spool_writer(directory: Path, **more: Any) -> SpoolWriter:
    """Return a writer of the spool below ``directory``."""
    from otel_audit_exporters.spool import SpoolWriter

    return SpoolWriter(directory / "spool", FINGERPRINT, 1 << 34, **more)


def request_record(number: int) -> Record:
    """Return the record of a request to the demo shop, about 1 KB in the spool."""
    from otel_audit.ids import record_id
    from otel_audit_exporters.envelope import capture

    identity, body = record_id(), f'{{"sku": "sku-{number}", "name": "A product", "price": "12.50", "stock": 5}}'
    facts = {
        "actor": ["1", "anna", "user"],
        "address": "127.0.0.1",
        "duration_ms": 2.993,
        "method": "POST",
        "query": "page=1",
        "request_body": body,
        "request_size": len(body),
        "response_body": body,
        "response_size": len(body),
        "route": "api/products/$",
        "scheme": "http",
        "status": 201,
        "url": "/api/products/",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    }
    span = {
        "name": "POST api/products/$",
        "trace_id": f"{number + 1:032x}",
        "span_id": f"{number + 1:016x}",
        "parent_span_id": "",
        "start": "1795531809852106215",
        "end": "1795531809855041875",
        "status": "UNSET",
    }
    ids = {"request": identity, "process": None, "step": None}
    return capture(
        {"v": 1, "type": "span", "kind": "request", "id": identity, "service": "shop", "ids": ids, "span": span}
        | {"facts": facts}
    )


def one_sync(directory: Path) -> list[float]:
    """Return how long it took to append 1 KB and sync it, again and again, in µs."""
    fd = os.open(directory / "alone", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    taken = []
    for _ in range(SYNCS):
        began = time.perf_counter()
        os.write(fd, bytes(1024))
        os.fdatasync(fd)
        taken.append((time.perf_counter() - began) * 1e6)
    os.close(fd)
    return taken


def percentile(values: list[float], which: int) -> float:
    """Return what ``which`` percent of ``values`` stay below."""
    return statistics.quantiles(values, n=100)[which - 1]


def resident_mb() -> float:
    """Return the memory of this process that is resident, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    """Run one measurement."""
    with tempfile.TemporaryDirectory(prefix="otel-audit-bench-") as name:
        print(json.dumps(MEASUREMENTS[sys.argv[1]](Path(name))))


if __name__ == "__main__":
    main()
