from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from otel_audit_exporters import quarantine
from otel_audit_exporters.accounts import locked
from otel_audit_exporters.drain import pending
from otel_audit_exporters.quarantine import Entry
from otel_audit_exporters.writer import Outcome, RetryLaterError
from tests.exporters.spooling import FINGERPRINT, Sink

RECORD = b'{"id": "one"}'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def entry(offset: int, data: bytes = RECORD) -> Entry:
    return Entry("poison", "told so", "some.segment", offset, "database", data)


def test_what_is_put_aside_can_be_read_back(directory: Path) -> None:
    found = [entry(0), entry(100, b"\xf5\x00 no text")]

    quarantine.add(directory, FINGERPRINT, found)

    assert quarantine.entries(directory, FINGERPRINT) == found


def test_the_file_is_for_its_owner_alone(directory: Path) -> None:
    quarantine.add(directory, FINGERPRINT, [entry(0)])

    (path,) = directory.glob("quarantine-*")
    assert path.stat().st_mode & 0o777 == 0o600


def test_each_target_has_a_quarantine_of_its_own(directory: Path) -> None:
    quarantine.add(directory, FINGERPRINT, [entry(0)])

    assert quarantine.entries(directory, "fedcba9876543210") == []


def test_a_place_that_is_put_aside_again_after_a_crash_counts_once(directory: Path) -> None:
    quarantine.add(directory, FINGERPRINT, [entry(0), entry(100)])

    quarantine.add(directory, FINGERPRINT, [entry(0), entry(100)])

    assert len(quarantine.entries(directory, FINGERPRINT)) == 2


def test_a_line_that_was_cut_off_spoils_no_other(directory: Path) -> None:
    quarantine.add(directory, FINGERPRINT, [entry(0), entry(100)])
    (path,) = directory.glob("quarantine-*")
    path.write_bytes(path.read_bytes()[:-20])

    quarantine.add(directory, FINGERPRINT, [entry(200)])

    assert [each.offset for each in quarantine.entries(directory, FINGERPRINT)] == [0, 200]


def test_a_record_that_was_in_no_segment_is_counted_too(directory: Path) -> None:
    quarantine.put_aside(directory, FINGERPRINT, RECORD, "conflict", "another hash")
    quarantine.put_aside(directory, FINGERPRINT, RECORD, "conflict", "another hash")

    counts = pending(directory, FINGERPRINT)
    assert len(quarantine.entries(directory, FINGERPRINT)) == 2
    assert (counts["captured"], counts["quarantined"]) == (2, 2)


def test_damage_is_not_tried_again(directory: Path) -> None:
    quarantine.add(directory, FINGERPRINT, [entry(0, b"\xf5\x00 no text")])
    sink = Sink()

    released = quarantine.retry(directory, FINGERPRINT, sink)

    assert released == 0
    assert len(quarantine.entries(directory, FINGERPRINT)) == 1


def test_an_outage_in_the_middle_of_a_retry_keeps_what_was_not_stored(directory: Path) -> None:
    with locked(directory, FINGERPRINT) as accounts:
        accounts.quarantined = 2
    quarantine.add(directory, FINGERPRINT, [entry(0), entry(100)])
    stored: list[bytes] = []

    def once(payloads: Sequence[bytes]) -> Outcome:
        if stored:
            raise RetryLaterError("the sink is down")
        stored.extend(payloads)
        return Outcome(1)

    with pytest.raises(RetryLaterError):
        quarantine.retry(directory, FINGERPRINT, once)

    counts = pending(directory, FINGERPRINT)
    assert [each.offset for each in quarantine.entries(directory, FINGERPRINT)] == [100]
    assert (counts["stored"], counts["quarantined"]) == (1, 1)


def test_nothing_to_put_aside_creates_nothing(directory: Path) -> None:
    quarantine.add(directory, FINGERPRINT, [])

    assert list(directory.iterdir()) == []
    assert quarantine.entries(directory, FINGERPRINT) == []
