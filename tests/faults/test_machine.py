"""Any order of appending, rotating, crashing, taking over, draining and outages, held against a model."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from otel_audit_exporters import quarantine, tailing
from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.segments import RECORD, frame, segments
from otel_audit_exporters.spool import SpoolWriter
from otel_audit_exporters.writer import Outcome
from tests.exporters.spooling import FINGERPRINT, Sink, make_record
from tests.faults.shims import Killed, calls

WRITERS = 3


class Database(Sink):
    """Inserts what is not there, as a drainer that died may not have noted what it stored."""

    def __call__(self, payloads: Sequence[bytes]) -> Outcome:
        """Store the ids that are new."""
        before = list(self.ids)
        outcome = super().__call__(payloads)
        self.ids = list(dict.fromkeys([*before, *self.ids]))
        return outcome


class Spool(RuleBasedStateMachine):
    """The model: which records were acknowledged, and which of them the sink refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="otel-audit-machine-")) / "spool"
        self.sink = Database()
        self.acknowledged: list[str] = []
        self.torn = 0
        #: The requests that are open, of each writer.
        self.open: list[list[str]] = [[] for _ in range(WRITERS)]
        self.writers = [self.new_writer() for _ in range(WRITERS)]
        self.drainer = Drainer(self.directory, FINGERPRINT, self.sink)

    def new_writer(self) -> SpoolWriter:
        """Return a process' writer; small segments, so that it rotates often."""
        return SpoolWriter(self.directory, FINGERPRINT, 1 << 30, segment_bytes=1500)

    @rule(who=st.integers(0, WRITERS - 1), count=st.integers(1, 4), refused=st.booleans())
    def append(self, who: int, count: int, refused: bool) -> None:
        """A process records."""
        records = [make_record("x") for _ in range(count)]
        if refused:
            self.sink.poison.add(records[0].id)
        self.writers[who].append(records)
        self.acknowledged += [record.id for record in records]

    @rule(who=st.integers(0, WRITERS - 1))
    def begin(self, who: int) -> None:
        """A request begins."""
        intent = make_record("begun")
        self.writers[who].intend(intent)
        self.open[who].append(intent.id)

    @precondition(lambda self: any(self.open))
    @rule(who=st.integers(0, WRITERS - 1), recorded=st.booleans())
    def end(self, who: int, recorded: bool) -> None:
        """The request that began first ends, with or without a record."""
        if not self.open[who]:
            return
        identity = self.open[who].pop(0)
        if recorded:
            self.writers[who].append([make_record("ended", identity=identity)])
            self.acknowledged.append(identity)
        else:
            self.writers[who].complete(identity)

    @rule(who=st.integers(0, WRITERS - 1))
    def close(self, who: int) -> None:
        """A process ends when its requests have, and another begins."""
        while self.open[who]:
            self.writers[who].complete(self.open[who].pop())
        self.writers[who].close()
        self.writers[who] = self.new_writer()

    @rule(who=st.integers(0, WRITERS - 1), cut=st.integers(0, 60))
    def crash(self, who: int, cut: int) -> None:
        """A process is killed in the middle of an append."""
        writer = self.writers[who]
        if writer._fd >= 0:
            if cut:
                os.write(writer._fd, frame(RECORD, b"{" + b"x" * 60)[:cut])
                self.torn += 1
            with writer._flusher.guard:  # a sync that is under way keeps the file open, and so its lock
                os.close(writer._fd)
                writer._fd = -1
        self.acknowledged += self.open[who]  # each is a record now
        self.open[who] = []
        self.writers[who] = self.new_writer()

    @rule(down=st.booleans())
    def outage(self, down: bool) -> None:
        """The database goes or comes back."""
        self.sink.down = down

    @precondition(lambda self: self.directory.exists())
    @rule()
    def drain(self) -> None:
        """The drainer works for a moment."""
        self.drainer.run_until_empty(0)

    @precondition(lambda self: self.directory.exists())
    @rule(at=st.integers(0, 30))
    def take_over(self, at: int) -> None:
        """The drainer dies in one of its system calls, and another process takes over."""
        with calls(at, kill=True), suppress(Killed):
            self.drainer.run_until_empty(0)
        self.drainer = Drainer(self.directory, FINGERPRINT, self.sink)

    @invariant()
    def the_books_balance(self) -> None:
        """Every acknowledged record is somewhere."""
        counts = pending(self.directory, FINGERPRINT)
        assert counts["captured"] == len(self.acknowledged)
        assert counts["lost"] == 0
        assert counts["stored"] <= len(self.sink.ids)

    def teardown(self) -> None:
        """In the end everything acknowledged is delivered or in quarantine."""
        self.sink.down = False
        for who in range(WRITERS):
            self.close(who)
        if self.directory.exists():
            assert Drainer(self.directory, FINGERPRINT, self.sink).run_until_empty(10) == 0
            self.the_books_balance()
            assert set(self.sink.ids) == set(self.acknowledged) - self.sink.poison
            aside = quarantine.entries(self.directory, FINGERPRINT)
            assert sum(entry.reason == "poison" for entry in aside) == len(self.sink.poison)
            assert sum(entry.reason == "torn" for entry in aside) == self.torn
            assert segments(self.directory) == []
        shutil.rmtree(self.directory.parent)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tailing, "LIVENESS_S", 0)
    with (
        patch.object(os, "fsync", lambda fd: None),
        patch.object(os, "fdatasync", lambda fd: None),
        patch("otel_audit_exporters.flusher.Flusher.want", lambda self: None),
    ):
        yield


def test_any_order_of_events_loses_doubles_and_invents_nothing() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Spool,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
