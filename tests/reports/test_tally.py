"""What the summary counts: percentiles by nearest rank, bars that share out any span of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from otel_audit.reports.cover import _percent
from otel_audit.reports.tally import Histogram, Tally, status_class
from otel_audit.reports.wording import count, duration, milliseconds
from tests.reports.rows import NOON, at


@pytest.mark.parametrize(
    ("durations", "p95"),
    [([], None), ([7.0], 7.0), ([1.0, 2.0], 2.0), ([float(n) for n in range(100, 0, -1)], 95.0)],
)
def test_the_95th_percentile_is_a_duration_that_was_measured(durations: list[float], p95: float | None) -> None:
    tally = Tally()
    tally.durations_ms.extend(durations)

    assert tally.p95_ms == p95


@pytest.mark.parametrize(
    ("status", "kind"), [(200, "2xx"), (304, "3xx"), (599, "5xx"), (None, ""), (0, ""), (99, ""), (1000, "")]
)
def test_a_status_belongs_to_a_class_or_to_none(status: int | None, kind: str) -> None:
    assert status_class(status) == kind


@pytest.mark.parametrize(
    ("share", "shown"),
    [(None, "\N{EN DASH}"), (0.0, "0 %"), (1.0, "100 %"), (0.5, "50 %"), (0.00001, "0.01 %"), (0.99999, "99.99 %")],
)
def test_a_share_is_never_rounded_to_none_or_all(share: float | None, shown: str) -> None:
    assert _percent(share) == shown


@pytest.mark.parametrize(
    ("apart", "number", "bar"),
    [
        (timedelta(seconds=1), 30, timedelta(minutes=1)),
        (timedelta(minutes=1), 90, timedelta(minutes=5)),
        (timedelta(hours=1), 40, timedelta(hours=1)),
        (timedelta(days=1), 40, timedelta(days=1)),
        (timedelta(days=30), 30, timedelta(days=28)),
        (timedelta(days=365), 60, timedelta(days=3640)),
    ],
)
def test_bars_are_as_long_as_the_time_needs(apart: timedelta, number: int, bar: timedelta) -> None:
    histogram = Histogram()
    for step in range(number):
        histogram.add(NOON + apart * step, "2xx")

    long, bars = histogram.bars()

    assert long == bar
    assert len(bars) <= 48
    assert sum(counter["2xx"] for _began, counter in bars) == number


def test_bars_without_requests_are_there_too() -> None:
    histogram = Histogram()
    histogram.add(at(0), "2xx")
    histogram.add(at(600), "5xx")

    _long, bars = histogram.bars()

    assert [began for began, _counter in bars] == [NOON + timedelta(minutes=minute) for minute in range(11)]
    assert [counter.total() for _began, counter in bars] == [1, *[0] * 9, 1]


def test_any_two_times_share_a_chart() -> None:
    histogram = Histogram()
    histogram.add(datetime(1, 1, 1, tzinfo=UTC), "2xx")
    histogram.add(datetime(9999, 12, 30, tzinfo=UTC), "2xx")

    _long, bars = histogram.bars()

    assert len(bars) < 110


def test_many_spans_are_merged_while_counting() -> None:
    histogram = Histogram()
    for minute in range(6000):
        histogram.add(NOON + timedelta(minutes=minute), "2xx")

    assert len(histogram._counts) <= 5000
    assert sum(counter["2xx"] for _began, counter in histogram.bars()[1]) == 6000


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0.04, "0.0 ms"),
        (9.94, "9.9 ms"),
        (412.0, "412 ms"),
        (9999.0, "9 999 ms"),
        (12_000.0, "12 s"),
        (600_000.0, "10 min"),
        (36_000_000.0, "10 h"),
        (864_000_000.0, "10 d"),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(ms: float, shown: str) -> None:
    assert duration(ms).replace("\N{NO-BREAK SPACE}", " ") == shown


def test_numbers_are_grouped_and_absent_ones_a_dash() -> None:
    assert count(1_234_567).split("\N{NO-BREAK SPACE}") == ["1", "234", "567"]
    assert milliseconds(None) == "\N{EN DASH}"
