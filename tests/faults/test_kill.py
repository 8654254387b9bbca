"""Processes that are killed, and what is there afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.segments import Name, segments
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import FINGERPRINT, Sink, make_records

KILLS = int(os.environ.get("OTEL_AUDIT_KILLS", "20"))


@pytest.mark.timeout(120 + KILLS)
def test_what_was_acknowledged_before_a_kill_is_delivered_once(directory: Path) -> None:
    program = [sys.executable, "-m", "tests.faults.killed", str(directory), FINGERPRINT, str(KILLS), "20261124"]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True, timeout=100 + KILLS)
    acknowledged = done.stdout.split()
    streams = {name.stream for path in segments(directory) if (name := Name.parse(path.name))}
    sink = Sink()

    left = Drainer(directory, FINGERPRINT, sink).run_until_empty(60 + KILLS)

    assert left == 0
    assert len(acknowledged) > 100
    assert set(acknowledged) - set(sink.ids) == set()
    assert len(sink.ids) == len(set(sink.ids))
    # An append may have been complete whose acknowledgement was not: four threads, at most one each.
    assert len(sink.ids) - len(acknowledged) <= 4 * KILLS
    counts = pending(directory, FINGERPRINT)
    assert (counts["captured"], counts["stored"], counts["lost"]) == (len(sink.ids), len(sink.ids), 0)
    assert counts["unclosed_streams"] == len(streams)
    assert segments(directory) == []


@pytest.mark.parametrize("held", [signal.SIGKILL, signal.SIGTERM])
def test_another_process_takes_over_within_two_seconds(directory: Path, held: signal.Signals) -> None:
    program = """
import sys, time
from pathlib import Path
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["otel_audit"], DATABASES={})
django.setup()
from otel_audit_exporters.drain import Drainer
from tests.exporters.spooling import Sink
drainer = Drainer(Path(sys.argv[1]), sys.argv[2], Sink())
drainer.start()
while drainer._lock_fd < 0:
    time.sleep(0.01)
print("holding", flush=True)
time.sleep(60)
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(directory), FINGERPRINT], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    sink = Sink()
    heir = Drainer(directory, FINGERPRINT, sink)
    heir.start()
    time.sleep(0.1)
    waited = heir._lock_fd < 0

    holder.send_signal(held)
    holder.wait(10)
    holder.stdout.close()
    writer = SpoolWriter(directory, FINGERPRINT, 1 << 30)
    writer.append(make_records(1))
    deadline = time.monotonic() + 2
    while not sink.ids and time.monotonic() < deadline:
        time.sleep(0.01)

    assert waited
    assert len(sink.ids) == 1
    heir.stop(5)
    writer.close()
