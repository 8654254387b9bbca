"""The audit trail's metrics of itself, by the names of the OpenTelemetry Audit Logging draft.

They go to the global ``MeterProvider``: without one, OpenTelemetry's API makes each of them next to nothing. What a
request does is not counted in it: the reader's thread asks for that when it collects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation

from otel_audit.attributes import AUDIT_SINK, ERROR_TYPE
from otel_audit.edges import edge
from otel_audit_exporters.accounts import DATABASE

__all__ = ["count_dropped", "count_quarantined", "measured_export", "observe"]

#: Pauses of a drain are seconds, a batch takes milliseconds.
_BOUNDARIES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class Measure:
    """What an export came to: how many records the sink has confirmed."""

    exported: int = 0


@dataclass(frozen=True, slots=True)
class _Instruments:
    exported: Counter
    dropped: Counter
    quarantined: Counter
    duration: Histogram


@cache
def _instruments() -> _Instruments:
    meter = metrics.get_meter("otel_audit")
    return _Instruments(
        meter.create_counter("audit.records.exported", "{record}", "Records that a sink has confirmed."),
        meter.create_counter("audit.records.dropped", "{record}", "Records that are lost; each is a critical alert."),
        meter.create_counter("audit.records.quarantined", "{record}", "Records that a sink has refused for good."),
        meter.create_histogram(
            "audit.export.duration",
            "s",
            "How long a sink took for a batch, or to fail.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        ),
    )


def count_dropped(reason: str, count: int, sink: str = DATABASE) -> None:
    """Count records that ``sink`` will never have."""
    with edge("metrics"):
        _instruments().dropped.add(count, {AUDIT_SINK: sink, ERROR_TYPE: reason})


def count_quarantined(sink: str, reasons: Sequence[str]) -> None:
    """Count records that ``sink`` has refused, one for each reason."""
    with edge("metrics"):
        for reason in reasons:
            _instruments().quarantined.add(1, {AUDIT_SINK: sink, ERROR_TYPE: reason})


@contextmanager
def measured_export(sink: str) -> Iterator[Measure]:
    """Measure how long the block takes to hand a batch to ``sink``; the block says what was confirmed."""
    measure = Measure()
    said = {AUDIT_SINK: sink}
    began = time.perf_counter()
    try:
        yield measure
    except Exception as error:
        said[ERROR_TYPE] = type(error).__qualname__
        raise
    finally:
        with edge("metrics"):
            _instruments().duration.record(time.perf_counter() - began, said)
            if measure.exported:
                _instruments().exported.add(measure.exported, {AUDIT_SINK: sink})


@cache
def observe(emitted: Callable[[], int], depths: Callable[[], Iterable[tuple[str, int]]]) -> None:
    """Offer what a reader of metrics asks for, once.

    Args:
        emitted: how many records this process has captured.
        depths: for each sink that this process serves, how many records wait for it.
    """

    def observe_emitted(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(emitted())]

    def observe_depths(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(depth, {AUDIT_SINK: sink}) for sink, depth in depths()]

    meter = metrics.get_meter("otel_audit")
    meter.create_observable_counter(
        "audit.records.emitted", [observe_emitted], "{record}", "Records that this process has captured."
    )
    meter.create_observable_gauge(
        "audit.queue.depth", [observe_depths], "{record}", "Records that wait for a sink, told by who serves it."
    )
