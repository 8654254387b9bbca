"""The metrics of the audit trail itself, as a reader of the global meter provider gets them."""

from __future__ import annotations

import os
import subprocess
import sys
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.metrics import _internal as metrics_api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_audit.conf import conf
from otel_audit_exporters import self_metrics
from otel_audit_exporters.drain import Drainer
from otel_audit_exporters.pipeline import pipeline
from otel_audit_exporters.self_metrics import count_dropped, measured_export, observe
from otel_audit_exporters.spool import SpoolWriter
from otel_audit_exporters.writer import Outcome
from tests.exporters.spooling import FINGERPRINT, Sink, make_records

Read = Callable[[], dict[str, dict[tuple[tuple[str, Any], ...], Any]]]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Read]:
    """Give a process that has a meter provider, and return a function that reads all metrics by name and attributes."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics_api, "_METER_PROVIDER", provider)
    self_metrics._instruments.cache_clear()
    observe.cache_clear()

    def collect() -> dict[str, dict[tuple[tuple[str, Any], ...], Any]]:
        data = reader.get_metrics_data()
        return {
            metric.name: {
                tuple(sorted((point.attributes or {}).items())): getattr(point, "value", None) or point
                for point in metric.data.data_points
            }
            for found in (data.resource_metrics if data is not None else ())
            for scope in found.scope_metrics
            for metric in scope.metrics
        }

    yield collect
    provider.shutdown()
    self_metrics._instruments.cache_clear()
    observe.cache_clear()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def spool(directory: Path, count: int) -> None:
    """Spool records of a stream that has ended."""
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    writer.append(make_records(count))
    writer.close()


def test_a_batch_is_counted_by_its_sink_and_timed(read: Read, directory: Path) -> None:
    spool(directory, 3)

    Drainer(directory, FINGERPRINT, Sink()).run_until_empty(10)

    found = read()
    database = (("audit.sink", "database"),)
    assert found["audit.records.exported"] == {database: 3}
    assert found["audit.export.duration"][database].count == 1
    assert "audit.records.dropped" not in found


def test_an_export_that_fails_says_by_which_error(read: Read, directory: Path) -> None:
    sink = Sink()
    sink.down = True
    spool(directory, 1)

    Drainer(directory, FINGERPRINT, sink, sink="otlp").run_until_empty(0.05)

    found = read()
    failed = (("audit.sink", "otlp"), ("error.type", "RetryLaterError"))
    assert found["audit.export.duration"][failed].count >= 1
    assert "audit.records.exported" not in found


def test_what_a_sink_refuses_is_counted_by_its_reason(read: Read, directory: Path) -> None:
    sink = Sink()
    records = make_records(3)
    sink.poison = {records[1].id}
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    writer.append(records)
    writer.close()

    Drainer(directory, FINGERPRINT, sink).run_until_empty(10)

    found = read()
    assert found["audit.records.quarantined"] == {(("audit.sink", "database"), ("error.type", "poison")): 1}
    assert found["audit.records.exported"] == {(("audit.sink", "database"),): 2}


def test_what_is_lost_is_counted_by_its_reason(read: Read) -> None:
    count_dropped("memory full", 5)
    count_dropped("memory full", 2)
    count_dropped("spool full", 1, "otlp")

    assert read()["audit.records.dropped"] == {
        (("audit.sink", "database"), ("error.type", "memory full")): 7,
        (("audit.sink", "otlp"), ("error.type", "spool full")): 1,
    }


def test_a_record_that_is_missing_in_its_stream_is_dropped(read: Read, directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    writer.append(make_records(1))
    writer._seq += 2  # as when two appends were lost to a power cut
    writer.append(make_records(1))
    writer.close()

    Drainer(directory, FINGERPRINT, Sink()).run_until_empty(10)

    assert read()["audit.records.dropped"] == {(("audit.sink", "database"), ("error.type", "gap")): 2}


@pytest.fixture
def waiting_site(settings: Any, directory: Path, fresh_pipeline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site whose database takes nothing, with two records in its spool."""
    settings.OTEL_AUDIT = {"DATABASE": "audit", "DELIVERY": "spool", "SPOOL_DIR": directory}
    sink = Sink()
    sink.down = True
    monkeypatch.setattr(pipeline._draining, "_store", sink)


def test_captured_and_waiting_records_are_told_when_somebody_reads(read: Read, waiting_site: None) -> None:
    observe(pipeline._emitted, pipeline._depths)
    pipeline._append(make_records(2))
    assert pipeline._draining.sinks is not None
    pipeline._draining.sinks.run_until_empty(0.2)

    first = read()
    pipeline._append(make_records(1))
    second = read()

    database = (("audit.sink", "database"),)
    assert (first["audit.records.emitted"], second["audit.records.emitted"]) == ({(): 2}, {(): 3})
    assert (first["audit.queue.depth"], second["audit.queue.depth"]) == ({database: 2}, {database: 3})


def test_who_does_not_drain_tells_no_depth(read: Read, waiting_site: None, directory: Path) -> None:
    observe(pipeline._emitted, pipeline._depths)
    elsewhere = Drainer(directory, conf.fingerprint, lambda payloads: Outcome(len(payloads)))
    spool(directory, 1)
    assert elsewhere._take_lock()

    pipeline._append(make_records(1))

    assert "audit.queue.depth" not in read()
    elsewhere.stop(5)


_FORKED = """
import os, sys, warnings
import django
from django.conf import settings
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
settings.configure(
    SECRET_KEY="x" * 50,
    INSTALLED_APPS=["otel_audit"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    OTEL_AUDIT={"SPOOL_DIR": sys.argv[1], "DRAIN": "external"},
    USE_TZ=True,
)
django.setup()
warnings.simplefilter("ignore")
reader = InMemoryMetricReader()
import otel_audit

def emitted():
    found = reader.get_metrics_data().resource_metrics[0].scope_metrics
    return [
        point.value
        for scope in found
        for metric in scope.metrics
        if metric.name == "audit.records.emitted"
        for point in metric.data.data_points
    ]

for number in range(4):
    with otel_audit.process("parent"):
        pass
metrics.set_meter_provider(MeterProvider([reader]))  # later than our instruments, as a site may
print(*emitted(), flush=True)
child = os.fork()
if child == 0:
    with otel_audit.process("child"):
        pass
    print(*emitted(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(*emitted(), flush=True)
"""


def test_a_forked_child_counts_its_own(directory: Path) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": ""}
    program = [sys.executable, "-c", _FORKED, str(directory)]

    said = subprocess.run(program, env=environment, check=True, timeout=60, capture_output=True, text=True)

    assert said.stdout.split() == ["4", "1", "4"]


def test_without_a_meter_provider_nothing_is_kept_and_next_to_nothing_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_api, "_METER_PROVIDER", NoOpMeterProvider())
    self_metrics._instruments.cache_clear()

    def export() -> None:
        with measured_export("database") as measure:
            measure.exported = 500

    export()
    took = min(timeit.repeat(export, number=100, repeat=20)) / 100
    self_metrics._instruments.cache_clear()

    assert isinstance(metrics.get_meter_provider(), NoOpMeterProvider)
    assert took < 100e-6  # of a batch; a fifth of a microsecond for each of its records
