"""The database and the collector: each in its own time, every segment until both have it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from otel_audit import conf as configuration
from otel_audit.conf import conf
from otel_audit_exporters import drain, quarantine, retirement, sinks
from otel_audit_exporters.accounts import load_accounts, pending
from otel_audit_exporters.drain import Drainer
from otel_audit_exporters.pipeline import pipeline
from otel_audit_exporters.segments import segments
from otel_audit_exporters.sinks import COLLECTOR, Sinks, retry_quarantined, sinks_status
from otel_audit_exporters.spool import SpoolWriter
from otel_audit_exporters.writer import Outcome, RetryLaterError
from tests.e2e.otlp_server import TAKEN, Answer, Collector, http_collector
from tests.exporters.spooling import Sink, make_records, process_record

AWAY = Answer(503, keeps=False)
PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("ENDPOINT", "PROTOCOL", "HEADERS"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(drain, "BACKOFF_MAX_S", 0.05)
    monkeypatch.setattr(sinks, "COLLECTOR_POLL_S", 0.01)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that takes what it gets, unless told otherwise."""
    with http_collector() as running:
        yield running


@pytest.fixture
def database() -> Sink:
    """What stands for the audit database."""
    return Sink()


@pytest.fixture
def configure(settings: Any, tmp_path: Path, collector: Collector) -> Callable[..., None]:
    """Return a function that sets ``OTEL_AUDIT`` for a spool of this test, forwarding or not."""

    def change(*, durable: bool = True, endpoint: str = "", timeout: float = 5, **options: Any) -> None:
        settings.OTEL_AUDIT = {
            "DATABASE": "audit",
            "DELIVERY": "spool",
            "SPOOL_DIR": tmp_path / "spool",
            "OTLP": {"endpoint": endpoint or collector.endpoint, "durable": durable, "timeout": timeout},
            **options,
        }

    change()
    return change


@pytest.fixture
def make_sinks(configure: Callable[..., None], database: Sink) -> Iterator[Callable[[], Sinks]]:
    """Return a function that makes the sinks of the settings as they are now."""
    made: list[Sinks] = []

    def make() -> Sinks:
        made.append(Sinks(database))
        return made[-1]

    yield make
    for each in made:
        each.stop(PATIENCE_S)


def spool(count: int, *, close: bool = True) -> list[str]:
    """Spool the records of ``count`` processes; return their ids."""
    records = [process_record(f"number {number}") for number in range(count)]
    writer = SpoolWriter(conf.spool_dir, conf.fingerprint, 1 << 30)
    writer.append(records)
    if close:
        writer.close()
    return [record.id for record in records]


def arrived(collector: Collector) -> list[str]:
    """Return the record ids of the spans that a collector has taken."""
    return [
        attribute.value.string_value
        for span in collector.spans()
        for attribute in span.attributes
        if attribute.key == "audit.record.id"
    ]


def wait_for(condition: Callable[[], Any]) -> bool:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def test_each_record_goes_to_both_and_the_segment_goes_when_both_have_it(
    make_sinks: Callable[[], Sinks], collector: Collector, database: Sink
) -> None:
    ids = spool(3)

    left = make_sinks().run_until_empty(PATIENCE_S)

    assert left == 0
    assert database.ids == arrived(collector) == ids
    assert segments(conf.spool_dir) == []
    assert not list(conf.spool_dir.glob("*.position"))
    assert pending(conf.spool_dir, conf.fingerprint)["stored"] == 3
    assert sinks_status(None) == {"otlp_stored": 3, "otlp_pending": 0, "otlp_quarantined": 0, "otlp_lost": 0}


def test_a_collector_that_is_away_keeps_its_records_and_nothing_from_the_database(
    make_sinks: Callable[[], Sinks], collector: Collector, database: Sink
) -> None:
    collector.answer = lambda _request: AWAY
    ids = spool(3)
    running = make_sinks()
    running.start()
    stored = wait_for(lambda: database.ids == ids and collector.asked > 2)
    waiting = (len(segments(conf.spool_dir)), pending(conf.spool_dir, conf.fingerprint)["pending"])
    waiting_there = sinks_status(None)

    collector.answer = lambda _request: TAKEN
    left = running.run_until_empty(PATIENCE_S)

    assert stored
    assert waiting == (1, 0)
    assert waiting_there == {"otlp_stored": 0, "otlp_pending": 3, "otlp_quarantined": 0, "otlp_lost": 0}
    assert left == 0
    assert arrived(collector) == ids
    assert database.ids == ids
    assert wait_for(lambda: not segments(conf.spool_dir))


def test_a_database_that_is_away_keeps_nothing_from_the_collector(
    make_sinks: Callable[[], Sinks], collector: Collector, database: Sink
) -> None:
    database.down = True
    ids = spool(3)
    running = make_sinks()

    running.start()

    assert wait_for(lambda: arrived(collector) == ids)
    assert wait_for(lambda: sinks_status(None)["otlp_stored"] == 3)
    assert running.stop(PATIENCE_S) == 3
    assert len(segments(conf.spool_dir)) == 1


@pytest.mark.parametrize("threads", [True, False], ids=["in the background", "by the command"])
def test_a_collector_that_never_answers_holds_up_nobody(
    make_sinks: Callable[[], Sinks], configure: Callable[..., None], database: Sink, threads: bool
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as hole:
        configure(endpoint=f"http://127.0.0.1:{hole.getsockname()[1]}/v1/traces", timeout=60)
        ids = spool(700)
        running = make_sinks()
        if threads:
            running.start()
        began = time.monotonic()

        left = running.run_until_empty(1)

        took = time.monotonic() - began
        assert left == 700
        assert took < 30  # it waits a minute for an answer
        assert wait_for(lambda: len(database.ids) == len(ids) or running.run_until_empty(0.1) < 0)
        running.stop(0)


def test_forwarding_that_is_taken_away_leaves_no_segment_behind(
    make_sinks: Callable[[], Sinks], configure: Callable[..., None], collector: Collector, database: Sink
) -> None:
    writer = SpoolWriter(conf.spool_dir, conf.fingerprint, 1 << 30)
    writer.append([process_record()])
    before = make_sinks()
    before.run_until_empty(PATIENCE_S)
    collector.answer = lambda _request: AWAY
    writer.append([process_record()])
    writer.close()
    before.run_until_empty(0.3)
    before.stop(PATIENCE_S)
    kept = len(segments(conf.spool_dir))
    positions = {path.name.split(".")[-2] for path in conf.spool_dir.glob("*.position")}

    configure(durable=False)
    left = make_sinks().run_until_empty(PATIENCE_S)

    assert kept == 1
    assert "otlp" in positions
    assert left == 0
    assert segments(conf.spool_dir) == []
    assert not list(conf.spool_dir.glob("*.position"))
    assert len(database.ids) == 2
    assert sinks_status(None) == {}


def test_forwarding_that_is_added_later_sends_what_is_there(
    make_sinks: Callable[[], Sinks], configure: Callable[..., None], collector: Collector, database: Sink
) -> None:
    configure(durable=False)
    ids = spool(2, close=False)
    make_sinks().run_until_empty(PATIENCE_S)
    before = arrived(collector)

    configure()
    left = make_sinks().run_until_empty(PATIENCE_S)

    assert (before, left) == ([], 0)
    assert arrived(collector) == database.ids == ids


def test_a_process_that_does_not_forward_waits_for_one_that_does(
    make_sinks: Callable[[], Sinks], configure: Callable[..., None], collector: Collector
) -> None:
    collector.answer = lambda _request: AWAY
    forwarding = make_sinks()
    forwarding.start()
    assert wait_for(lambda: forwarding._drainers[1].is_holder)
    forwarding._drainers[0].stop(PATIENCE_S)  # as if another process held the database's lock
    configure(durable=False)
    ids = spool(2)

    old = make_sinks()
    old.run_until_empty(PATIENCE_S)
    kept = len(segments(conf.spool_dir))
    collector.answer = lambda _request: TAKEN
    reached = wait_for(lambda: len(arrived(collector)) == 2)

    assert kept == 1
    assert reached
    assert arrived(collector) == ids


def test_what_the_collector_refuses_for_good_is_put_aside_for_it_alone(
    make_sinks: Callable[[], Sinks], collector: Collector, database: Sink
) -> None:
    def answer(request: Any) -> Answer:
        return Answer(400, b"no", keeps=False) if "number 1" in str(request) else TAKEN

    collector.answer = answer
    ids = spool(3)

    left = make_sinks().run_until_empty(PATIENCE_S)

    (entry,) = quarantine.entries(conf.spool_dir, conf.fingerprint)
    assert left == 0
    assert (entry.sink, entry.reason) == (COLLECTOR, "refused")
    assert database.ids == ids
    assert arrived(collector) == [ids[0], ids[2]]
    assert sinks_status(None) == {"otlp_stored": 2, "otlp_pending": 0, "otlp_quarantined": 1, "otlp_lost": 0}
    counts = pending(conf.spool_dir, conf.fingerprint)
    assert (counts["stored"], counts["quarantined"]) == (3, 0)


def test_what_was_put_aside_is_tried_again_at_the_sink_that_refused_it(
    make_sinks: Callable[[], Sinks], collector: Collector, database: Sink
) -> None:
    collector.answer = lambda request: TAKEN if not request.resource_spans else Answer(400, keeps=False)
    ids = spool(2)
    make_sinks().run_until_empty(PATIENCE_S)
    collector.answer = lambda _request: TAKEN

    retried = retry_quarantined(database)

    assert retried == 2
    assert arrived(collector) == database.ids == ids
    assert quarantine.entries(conf.spool_dir, conf.fingerprint) == []
    assert sinks_status(None) == {"otlp_stored": 2, "otlp_pending": 0, "otlp_quarantined": 0, "otlp_lost": 0}
    assert load_accounts(conf.spool_dir, conf.fingerprint).quarantined == 0


def test_damage_is_put_aside_once_however_many_sinks_there_are(
    make_sinks: Callable[[], Sinks], collector: Collector, database: Sink
) -> None:
    spool(3)
    (path,) = segments(conf.spool_dir)
    data = bytearray(path.read_bytes())
    data[data.index(b"number 1")] ^= 1
    path.write_bytes(data)

    left = make_sinks().run_until_empty(PATIENCE_S)

    assert left == 0
    assert len(database.ids) == len(arrived(collector)) == 2
    assert Counter(entry.reason for entry in quarantine.entries(conf.spool_dir, conf.fingerprint)) == {"damage": 1}


def test_a_spool_that_the_collector_would_fill_goes_on_without_it_and_says_so(
    make_sinks: Callable[[], Sinks],
    configure: Callable[..., None],
    collector: Collector,
    database: Sink,
    caplog: pytest.LogCaptureFixture,
) -> None:
    collector.answer = lambda _request: AWAY
    spool(40)
    (path,) = segments(conf.spool_dir)
    configure(SPOOL_MAX_BYTES=path.stat().st_size)

    make_sinks().start()

    assert wait_for(lambda: not segments(conf.spool_dir))
    assert len(database.ids) == 40
    assert sinks_status(None) == {"otlp_stored": 0, "otlp_pending": 0, "otlp_quarantined": 0, "otlp_lost": 40}
    assert "goes without waiting for 'otlp'" in caplog.text
    assert pending(conf.spool_dir, conf.fingerprint)["lost"] == 0


def test_a_spool_with_room_is_kept_for_the_collector(
    make_sinks: Callable[[], Sinks], configure: Callable[..., None], collector: Collector, database: Sink
) -> None:
    collector.answer = lambda _request: AWAY
    spool(40)
    configure(SPOOL_MAX_BYTES=1 << 20)

    make_sinks().start()

    assert wait_for(lambda: pending(conf.spool_dir, conf.fingerprint)["stored"] == 40 and collector.asked > 2)
    assert len(segments(conf.spool_dir)) == 1


def test_segments_are_counted_once_however_both_finish_them(
    make_sinks: Callable[[], Sinks], collector: Collector, database: Sink
) -> None:
    running = make_sinks()
    running.start()
    writer = SpoolWriter(conf.spool_dir, conf.fingerprint, 1 << 30, segment_bytes=2000)
    for _ in range(60):
        writer.append([process_record() for _ in range(4)])
    writer.close()

    left = running.run_until_empty(PATIENCE_S)

    assert left == 0
    assert wait_for(lambda: not segments(conf.spool_dir))
    books = load_accounts(conf.spool_dir, conf.fingerprint)
    assert (books.stored, books.lost, books.unclosed_streams) == (240, {}, 0)
    assert books.others["otlp"] == {"stored": 240, "quarantined": 0, "lost": 0}
    assert len(set(arrived(collector))) == len(set(database.ids)) == 240


@pytest.mark.parametrize("when", ["with a later segment there", "with none there", "after it was listed"])
def test_a_segment_that_another_sink_has_just_retired_is_not_counted_again(
    make_sinks: Callable[[], Sinks], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    writer = SpoolWriter(conf.spool_dir, conf.fingerprint, 1 << 30, segment_bytes=500)
    for _ in range(2):
        writer.append([process_record()])
    if when != "with a later segment there":
        writer.close()
    late = make_sinks()._drainers[1]
    tail = next(iter(late._tailer._known()))
    make_sinks().run_until_empty(PATIENCE_S)
    gone = not tail.path.exists()

    if when == "after it was listed":
        monkeypatch.setattr(retirement, "segments", lambda _directory: [tail.path])

    late._retirement.retire(tail)

    writer.close()
    assert gone
    assert load_accounts(conf.spool_dir, conf.fingerprint).unclosed_streams == 0
    assert pending(conf.spool_dir, conf.fingerprint)["stored"] == 2
    assert load_accounts(conf.spool_dir, conf.fingerprint).lost == {}


def test_the_pause_that_a_sink_asks_for_is_kept(tmp_path: Path) -> None:
    asked: list[float] = []

    class LaterError(RetryLaterError):
        after_s = 0.4

    def deliver(_payloads: Any) -> Outcome:
        asked.append(time.monotonic())
        raise LaterError("later")

    writer = SpoolWriter(tmp_path / "spool", "0123456789abcdef", 1 << 30)
    writer.append(make_records(1))
    drainer = Drainer(tmp_path / "spool", "0123456789abcdef", deliver)

    drainer.start()
    waited = wait_for(lambda: len(asked) >= 3)
    drainer.stop(PATIENCE_S)
    writer.close()

    assert waited
    assert all(later - sooner >= 0.39 for sooner, later in pairwise(asked))


def test_a_segment_that_was_given_up_while_it_was_sent_leaves_no_position(
    make_sinks: Callable[[], Sinks], collector: Collector
) -> None:
    spool(2)
    (path,) = segments(conf.spool_dir)

    def answer(_request: Any) -> Answer:
        path.unlink(missing_ok=True)
        return TAKEN

    collector.answer = answer
    forwarding = make_sinks()._drainers[1]

    forwarding.run_until_empty(PATIENCE_S)

    assert len(arrived(collector)) == 2
    assert not list(conf.spool_dir.glob("*.position"))


_FORWARDING = """
import atexit, os, signal, sys
import django
from pathlib import Path
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["otel_audit"],
    SECRET_KEY="x",
    DATABASES={},
    OTEL_AUDIT={"OTLP": {"endpoint": sys.argv[3], "durable": True}},
)
django.setup()
from otel_audit_exporters.accounts import Position
from otel_audit_exporters.drain import Drainer
from otel_audit_exporters.otlp_sink import CollectorSink
"""
_KILLED_AFTER_SENDING = f"""{_FORWARDING}
Position.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Drainer(Path(sys.argv[1]), sys.argv[2], CollectorSink(), sink="otlp").run_until_empty(30)
"""


def test_a_kill_between_sending_and_noting_it_repeats_and_loses_nothing(
    make_sinks: Callable[[], Sinks], collector: Collector
) -> None:
    ids = spool(3)
    program = [sys.executable, "-c", _KILLED_AFTER_SENDING, str(conf.spool_dir), conf.fingerprint, collector.endpoint]
    killed = subprocess.run(program, check=False, timeout=60)
    first = collector.ids()

    left = make_sinks().run_until_empty(PATIENCE_S)

    assert killed.returncode == -signal.SIGKILL
    assert left == 0
    assert arrived(collector) == ids * 2
    assert collector.ids() == first * 2  # the same span ids: whoever stores them can tell


_SENDING_WHILE_IT_ENDS = f"""{_FORWARDING}
drainer = Drainer(Path(sys.argv[1]), sys.argv[2], CollectorSink(), sink="otlp")
atexit.register(drainer.run_until_empty, 30)
"""


def test_what_is_sent_for_the_first_time_while_the_interpreter_ends_arrives(collector: Collector) -> None:
    ids = spool(3)

    program = [sys.executable, "-c", _SENDING_WHILE_IT_ENDS, str(conf.spool_dir), conf.fingerprint, collector.endpoint]
    subprocess.run(program, check=True, timeout=60)

    assert arrived(collector) == ids


_FORKED = """
import os, sys, warnings
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="x" * 50,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "otel_audit"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1] + ".db"}},
    OTEL_AUDIT={"SPOOL_DIR": sys.argv[1], "OTLP": {"endpoint": sys.argv[2], "durable": True}},
    USE_TZ=True,
)
django.setup()
warnings.simplefilter("ignore")
from django.core.management import call_command
from django.db import connections
call_command("migrate", verbosity=0)
import otel_audit
with otel_audit.process("parent"):
    pass
assert otel_audit.flush(20) == 0
connections.close_all()
child = os.fork()
if child == 0:
    with otel_audit.process("child"):
        pass
    os._exit(0)
os.waitpid(child, 0)
assert otel_audit.flush(20) == 0
"""


def test_what_a_forked_child_records_arrives_too(tmp_path: Path, collector: Collector) -> None:
    program = [sys.executable, "-c", _FORKED, str(tmp_path / "spool"), collector.endpoint]

    subprocess.run(program, env={**os.environ, "DJANGO_SETTINGS_MODULE": ""}, check=True, timeout=60)

    assert {span.name for span in collector.spans()} == {"parent", "child"}


def test_a_change_of_the_settings_changes_the_sinks(
    configure: Callable[..., None], collector: Collector, fresh_pipeline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline._draining, "_store", lambda payloads: Outcome(len(payloads)))
    configure(durable=False)
    pipeline.start()
    before = {thread.name for thread in threading.enumerate()}

    configure()
    pipeline._append([process_record()])

    assert "otel-audit-drain-otlp" not in before
    assert "otel-audit-drain-otlp" in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("delivery", ["sync", "memory"])
def test_without_a_spool_nothing_is_forwarded_durably(configure: Callable[..., None], delivery: str) -> None:
    configure(DELIVERY=delivery)

    assert sinks.sink_names() == ("database",)


def test_status_and_shutdown_tell_what_the_collector_has_not_got(
    configure: Callable[..., None], collector: Collector, fresh_pipeline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_audit_exporters.pipeline.EXIT_DRAIN_S", 0.2)
    monkeypatch.setattr(pipeline._draining, "_store", lambda payloads: Outcome(len(payloads)))
    collector.answer = lambda _request: AWAY
    spool(2)
    pipeline.start()
    wait_for(lambda: pending(conf.spool_dir, conf.fingerprint)["stored"] == 2)

    flushed = pipeline.flush(0.1)
    found = pipeline.status()
    left = pipeline.shutdown()

    assert (flushed, left) == (2, 2)
    assert (found["pending"], found["otlp_pending"]) == (0, 2)
    assert found["captured"] == found["stored"] == 2


@pytest.mark.parametrize("durable", [True, False])
def test_a_record_that_the_spool_does_not_take_is_said_to_miss_the_collector(
    configure: Callable[..., None],
    fresh_pipeline: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    durable: bool,
) -> None:
    configure(durable=durable, SPOOL_MAX_BYTES=1, DRAIN="external")
    monkeypatch.setattr(pipeline._direct, "write", lambda payloads, *, at_request: Outcome(len(payloads)))

    pipeline._deliver([process_record()], conf.delivery)

    assert ("are not forwarded" in caplog.text) is durable


def test_the_variable_alone_does_not_forward_durably(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    settings.OTEL_AUDIT = {"DELIVERY": "spool"}

    assert configuration.conf.otlp is None
    assert sinks.sink_names() == ("database",)
