"""A request that has begun leaves exactly one record: its own, or that of its intent when its process has died."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from otel_audit.exceptions import SpoolError
from otel_audit.ids import record_id
from otel_audit_exporters import quarantine, tailing
from otel_audit_exporters.accounts import excluded_by, load_accounts, oldest_pending
from otel_audit_exporters.drain import Drainer, pending
from otel_audit_exporters.envelope import Record, encode_intent, parse
from otel_audit_exporters.losses import REFUSED
from otel_audit_exporters.mapper import rows
from otel_audit_exporters.segments import RECORD, frame, segments
from otel_audit_exporters.spool import SpoolWriter
from otel_audit_exporters.writer import Outcome, RetryLaterError
from tests.faults.shims import Killed, calls

from .spooling import FINGERPRINT, make_record, make_records


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "LIVENESS_S", 0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


class Store:
    """Keeps each record by its id, the first one, as the database does."""

    def __init__(self) -> None:
        self.envelopes: dict[str, dict[str, Any]] = {}
        self.down = False

    def __call__(self, payloads: Sequence[bytes]) -> Outcome:
        if self.down:
            raise RetryLaterError("the sink is down")
        for payload in payloads:
            envelope = parse(payload)
            self.envelopes.setdefault(envelope["id"], envelope)
        return Outcome(len(payloads))

    def types(self) -> dict[str, str]:
        return {key: envelope["type"] for key, envelope in self.envelopes.items()}


def make_intent(identity: str | None = None) -> Record:
    facts = {"method": "POST", "url": "/orders/", "query": "", "address": "203.0.113.9", "user_agent": "curl"}
    return encode_intent(
        identity or record_id(), 1790000000000000000, {**facts, "status": None, "outcome": "unknown"}, None, "shop"
    )


def die(writer: SpoolWriter) -> None:
    """Let go of everything, as the kernel does for a process that is killed."""
    with writer._flusher.guard:  # a sync that is under way keeps the file open, and so its lock
        writer.after_fork_in_child()


def drain(directory: Path, store: Store) -> int:
    return Drainer(directory, FINGERPRINT, store).run_until_empty(10)


def new_writer(directory: Path, **more: Any) -> SpoolWriter:
    return SpoolWriter(directory, FINGERPRINT, 1 << 30, **more)


def test_an_intent_whose_process_died_becomes_a_record(directory: Path) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()
    before = make_record()
    writer.append([before])
    writer.intend(intent)
    die(writer)

    waiting = pending(directory, FINGERPRINT)
    left = drain(directory, store)

    assert (waiting["captured"], waiting["pending"]) == (2, 2)
    assert left == 0
    assert store.types() == {before.id: "event", intent.id: "intent"}
    envelope = store.envelopes[intent.id]
    assert (envelope["stream"], envelope["seq"], envelope["hash"]) == (writer.stream, 2, intent.hash)
    counts = pending(directory, FINGERPRINT)
    assert (counts["captured"], counts["stored"], counts["pending"], counts["lost"]) == (2, 2, 0, 0)
    assert segments(directory) == []


def test_the_row_of_an_intent_says_that_its_outcome_is_not_known(directory: Path) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()
    writer.intend(intent)
    die(writer)
    drain(directory, store)

    (row,) = rows(store.envelopes[intent.id])

    assert str(row.id) == intent.id
    assert (row.outcome, row.status_code, row.response_time) == ("unknown", None, 0.0)  # type: ignore[attr-defined]
    assert (row.method, row.url, row.actor_name) == ("POST", "/orders/", "unknown")  # type: ignore[attr-defined]
    assert (row.ip_addresses, row.user_agent) == ("203.0.113.9", "curl")  # type: ignore[attr-defined]


def test_an_intent_of_a_live_process_stays_where_it_is(directory: Path) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()
    writer.intend(intent)

    left = drain(directory, store)

    assert (left, store.envelopes) == (0, {})
    assert pending(directory, FINGERPRINT)["captured"] == 0
    die(writer)
    assert drain(directory, store) == 0
    assert store.types() == {intent.id: "intent"}


def test_the_record_of_a_request_completes_its_intent(directory: Path) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()
    writer.intend(intent)
    writer.append([make_record(), make_record(identity=intent.id)])
    die(writer)

    drain(directory, store)

    assert sorted(store.types().values()) == ["event", "event"]
    assert pending(directory, FINGERPRINT)["captured"] == 2


def test_a_request_that_ended_without_a_record_leaves_none(directory: Path) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()
    writer.intend(intent)
    writer.complete(intent.id)
    die(writer)

    drain(directory, store)

    assert store.envelopes == {}
    assert pending(directory, FINGERPRINT)["captured"] == 0


def test_what_a_client_writes_into_a_record_completes_no_other_request(directory: Path) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()
    writer.intend(intent)
    forged = {"id": intent.id, "ids": {}, "text": f'","id":"{intent.id}","ids":{{'}
    writer.append([make_record(f'"id":"{intent.id}"', extra=forged)])
    die(writer)

    drain(directory, store)

    assert store.types()[intent.id] == "intent"


def test_an_open_intent_keeps_no_segment_and_no_other_record(directory: Path) -> None:
    writer, intent, store = new_writer(directory, segment_bytes=2000), make_intent(), Store()
    writer.intend(intent)
    for record in make_records(50):
        writer.append([record])

    left = drain(directory, store)

    assert (left, len(store.envelopes)) == (0, 50)
    assert len(segments(directory)) == 1
    die(writer)
    drain(directory, store)
    assert store.types()[intent.id] == "intent"
    assert pending(directory, FINGERPRINT)["captured"] == 51


def test_a_request_that_outlasts_segments_leaves_its_own_record_alone(directory: Path) -> None:
    writer, intent, store = new_writer(directory, segment_bytes=2000), make_intent(), Store()
    writer.intend(intent)
    for record in make_records(20):
        writer.append([record])
    writer.append([make_record(identity=intent.id)])
    for record in make_records(20):
        writer.append([record])
    die(writer)

    drain(directory, store)

    assert len(store.envelopes) == 41
    assert set(store.types().values()) == {"event"}


def test_more_open_intents_than_a_segment_holds_do_not_begin_a_segment_each(directory: Path) -> None:
    writer = new_writer(directory, segment_bytes=2000)
    for _ in range(40):
        writer.intend(make_intent())

    writer.append(make_records(1))

    assert len(segments(directory)) < 12
    writer.after_fork_in_child()


def test_more_open_intents_than_a_batch_holds_are_all_stored(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "BATCH_RECORDS", 7)
    monkeypatch.setattr(tailing, "LIVENESS_S", 60)
    writer, store = new_writer(directory), Store()
    writer.append(make_records(3))
    for _ in range(23):
        writer.intend(make_intent())
    die(writer)

    left = drain(directory, store)

    assert (left, len(store.envelopes)) == (0, 26)
    assert sorted(envelope["seq"] for envelope in store.envelopes.values()) == list(range(1, 27))
    assert pending(directory, FINGERPRINT)["stored"] == 26


def test_a_record_that_was_cut_off_leaves_the_intent(directory: Path) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()
    writer.intend(intent)
    os.write(writer._fd, frame(RECORD, make_record(identity=intent.id).core)[:50])
    die(writer)

    drain(directory, store)

    assert store.types() == {intent.id: "intent"}
    assert [entry.reason for entry in quarantine.entries(directory, FINGERPRINT)] == ["torn"]


def test_a_stream_with_open_requests_closes_with_the_last_of_them(directory: Path) -> None:
    writer, intent, other, store = new_writer(directory), make_intent(), make_intent(), Store()
    writer.intend(intent)
    writer.intend(other)
    writer.close()
    drain(directory, store)
    early = dict(store.envelopes)

    writer.append([make_record(identity=intent.id)])
    writer.complete(other.id)
    drain(directory, store)

    assert early == {}
    assert store.types() == {intent.id: "event"}
    assert pending(directory, FINGERPRINT)["unclosed_streams"] == 0
    with pytest.raises(SpoolError, match="closed"):
        writer.intend(make_intent())


def test_a_segment_that_is_given_up_is_not_taken_for_that_of_a_dead_process(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()
    writer.intend(intent)
    writer._give_up()
    drain(directory, store)
    early = dict(store.envelopes)

    writer.append([make_record(identity=intent.id)])
    writer.close()
    drain(directory, store)

    assert early == {}
    assert store.types() == {intent.id: "event"}


def test_the_end_of_a_request_that_cannot_be_noted_is_noted_with_the_next_append(directory: Path) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()
    writer.intend(intent)
    with calls(0):
        writer.complete(intent.id)
    writer.append(make_records(1))
    die(writer)

    drain(directory, store)

    assert list(store.types().values()) == ["event"]


@pytest.mark.parametrize("fails_at", range(3))
def test_an_intent_that_cannot_be_stored_is_not_there(directory: Path, fails_at: int) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()

    with calls(fails_at), pytest.raises(SpoolError):
        writer.intend(intent)
    writer.append(make_records(1))
    die(writer)
    drain(directory, store)

    assert list(store.types().values()) == ["event"]


def test_a_full_spool_takes_no_intent_but_the_end_of_one(directory: Path) -> None:
    writer, intent, store = SpoolWriter(directory, FINGERPRINT, 2000), make_intent(), Store()
    writer.intend(intent)
    with pytest.raises(SpoolError, match="full"):
        for _ in range(20):
            writer.intend(make_intent("0" * 36))
    for _ in range(2):
        writer.complete(intent.id)
    writer.complete("0" * 36)
    die(writer)

    drain(directory, store)

    assert store.envelopes == {}


@pytest.mark.usefixtures("_no_sync")
def test_a_drain_that_dies_anywhere_neither_loses_nor_doubles_an_intent(directory: Path, tmp_path: Path) -> None:
    at = 0
    while True:
        directory = tmp_path / f"spool{at}"
        writer, intents, store = new_writer(directory, segment_bytes=3000), [make_intent(), make_intent()], Store()
        writer.intend(intents[0])
        for record in make_records(8):
            writer.append([record])
        writer.intend(intents[1])
        done = make_intent()
        writer.intend(done)
        writer.append([make_record(identity=done.id)])
        die(writer)
        with calls(at, kill=True) as counting:
            try:
                drain(directory, store)
                finished = True
            except Killed:
                finished = False

        left = drain(directory, store)

        assert left == 0
        assert len(store.envelopes) == 11
        assert sorted(key for key, kind in store.types().items() if kind == "intent") == [i.id for i in intents]
        counts = pending(directory, FINGERPRINT)
        assert (counts["captured"], counts["stored"], counts["lost"], counts["quarantined"]) == (11, 11, 0, 0)
        assert segments(directory) == []
        if finished and counting.number <= at:
            break
        at += 1
    assert at > 20


@pytest.fixture
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


def test_a_database_that_is_away_keeps_an_intent_waiting(directory: Path) -> None:
    writer, intent, store = new_writer(directory), make_intent(), Store()
    writer.intend(intent)
    die(writer)
    store.down = True
    drainer = Drainer(directory, FINGERPRINT, store)

    left = drainer.run_until_empty(0.1)
    store.down = False

    assert left == 1
    assert oldest_pending(directory, FINGERPRINT) is not None
    assert drainer.run_until_empty(10) == 0
    assert list(store.envelopes) == [intent.id]
    assert oldest_pending(directory, FINGERPRINT) is None


def test_refusals_are_counted_apart_and_go_into_the_books(directory: Path) -> None:
    writer, store = new_writer(directory), Store()
    writer.record_loss({REFUSED: 1})
    unnoted = writer.unnoted().get(REFUSED, 0)
    writer.append(make_records(1))
    writer.record_loss({REFUSED: 2, "encode": 1})

    alive = pending(directory, FINGERPRINT)
    writer.close()
    drain(directory, store)
    gone = pending(directory, FINGERPRINT)

    assert (unnoted, writer.unnoted().get(REFUSED, 0)) == (1, 0)
    for counts in (alive, gone):
        assert (counts["refused"], counts["lost"], counts["captured"]) == (3, 1, 2)
    assert load_accounts(directory, FINGERPRINT).refused == 3
    assert list(directory.glob("*.losses")) == []


def test_the_number_of_an_intent_is_that_of_no_record(directory: Path) -> None:
    writer, store = new_writer(directory), Store()
    writer.intend(make_intent())
    writer.append(make_records(2))
    writer.intend(make_intent())
    writer.append(make_records(1))
    die(writer)

    drain(directory, store)

    assert [json.dumps(envelope["seq"]) for envelope in store.envelopes.values()] == ["1", "2", "3", "4", "5"]
    assert pending(directory, FINGERPRINT)["lost"] == 0


def test_exclusions_are_counted_apart_and_go_into_the_books(directory: Path) -> None:
    writer, store = new_writer(directory), Store()
    writer.exclude("rule 1")
    writer.append(make_records(1))
    writer.exclude("rule 1")
    writer.exclude("STATIC_URL")

    alive = excluded_by(directory, FINGERPRINT)
    writer.close()
    drain(directory, store)

    assert alive == excluded_by(directory, FINGERPRINT) == {"rule 1": 2, "STATIC_URL": 1}
    assert pending(directory, FINGERPRINT)["lost"] == 0
    assert list(directory.glob("*.losses")) == []


def test_exclusions_are_seen_from_outside_before_the_first_record(directory: Path) -> None:
    writer = new_writer(directory)

    writer.exclude("rule 1")

    assert excluded_by(directory, FINGERPRINT) == {"rule 1": 1}
    assert writer.unnoted() == {}
    writer.close()
    assert drain(directory, Store()) == 0
    assert segments(directory) == []


def test_an_exclusion_that_finds_no_directory_is_kept_in_memory(directory: Path) -> None:
    writer = new_writer(directory)
    directory.rmdir() if directory.exists() else None
    directory.write_text("in the way")

    with pytest.raises(SpoolError):
        writer.exclude("rule 1")

    assert writer.unnoted() == {"excluded:rule 1": 1}
