"""What the report counts while it writes: the summary says of the rows exactly what the pages show."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from otel_audit.attributes import SERVICE_UNKNOWN
from otel_audit.models import AuditEvent, LoginAuditEvent, RegistrationAuditEvent, RequestAuditEvent
from otel_audit.outcomes import DerivedOutcome

__all__ = ["Histogram", "Tally", "status_class"]

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
#: Seconds per bar, so that each is a whole number of those before it.
_STEPS: Final = (
    *(_MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 6 * _HOUR),
    *(_DAY, 7 * _DAY, 28 * _DAY, 364 * _DAY, 3640 * _DAY, 36400 * _DAY),
)
_MOST_BARS: Final = 48
_MOST_KEPT: Final = 5000
_MONDAY: Final = datetime(1970, 1, 5, tzinfo=UTC)
_EARLIEST: Final = (datetime.min.replace(tzinfo=UTC) - _MONDAY).total_seconds()


class Histogram:
    """Requests per span of time and status class; the spans grow with the time that is covered."""

    def __init__(self) -> None:
        self._seconds = _STEPS[0]
        self._counts: dict[int, Counter[str]] = {}

    def add(self, moment: datetime, kind: str) -> None:
        """Count one request of the status class ``kind``."""
        span = int((moment - _MONDAY).total_seconds() // self._seconds)
        self._counts.setdefault(span, Counter())[kind] += 1
        if len(self._counts) > _MOST_KEPT:
            self._coarsen()

    def bars(self) -> tuple[timedelta, list[tuple[datetime, Counter[str]]]]:
        """Return how long a bar is, and every bar from the first to the last, empty ones too."""
        if not self._counts:
            return timedelta(seconds=self._seconds), []
        while max(self._counts) - min(self._counts) >= _MOST_BARS and self._seconds < _STEPS[-1]:
            self._coarsen()
        return timedelta(seconds=self._seconds), list(self._filled())

    def _filled(self) -> Iterator[tuple[datetime, Counter[str]]]:
        for span in range(min(self._counts), max(self._counts) + 1):
            began = _MONDAY + timedelta(seconds=max(span * self._seconds, _EARLIEST))
            yield began, self._counts.get(span, Counter())

    def _coarsen(self) -> None:
        wider = _STEPS[min(_STEPS.index(self._seconds) + 1, len(_STEPS) - 1)]
        merged: dict[int, Counter[str]] = {}
        for span, counter in self._counts.items():
            merged.setdefault(span * self._seconds // wider, Counter()).update(counter)
        self._seconds, self._counts = wider, merged


@dataclass(slots=True)
class Tally:
    """Counts of the rows that were written."""

    services: Counter[str] = field(default_factory=Counter)
    status_classes: Counter[str] = field(default_factory=Counter)
    durations_ms: array[float] = field(default_factory=lambda: array("d"))
    logins: Counter[str] = field(default_factory=Counter)
    processes: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    registrations: Counter[bool] = field(default_factory=Counter)
    missing_registrations: int = 0
    histogram: Histogram = field(default_factory=Histogram)
    first: datetime | None = None
    last: datetime | None = None

    def request(self, row: RequestAuditEvent) -> None:
        """Count a request."""
        self._seen(row)
        kind = status_class(row.status_code)
        self.status_classes[kind] += 1
        self.histogram.add(row.datetime, kind)
        if row.response_time is not None:
            self.durations_ms.append(row.response_time)

    def login(self, row: LoginAuditEvent) -> None:
        """Count a sign-in event."""
        self._seen(row)
        self.logins[row.status] += 1

    def process(self, row: AuditEvent, outcome: str) -> None:
        """Count a process."""
        self._seen(row)
        self.processes[outcome] += 1

    def step(self, row: AuditEvent, outcome: str, missing: int) -> None:
        """Count a step and the registrations that it lacks."""
        self._seen(row)
        self.steps[outcome] += 1
        self.missing_registrations += missing

    def registration(self, row: RegistrationAuditEvent) -> None:
        """Count a registration."""
        self._seen(row)
        self.registrations[row.success] += 1

    @property
    def named_services(self) -> list[str]:
        """The services that the rows name, the busiest first, without what OpenTelemetry calls one without a name."""
        return [name for name, _rows in self.services.most_common() if not name.startswith(SERVICE_UNKNOWN)]

    @property
    def requests(self) -> int:
        """Number of requests."""
        return self.status_classes.total()

    @property
    def empty(self) -> bool:
        """Whether nothing at all was written."""
        counters = (self.status_classes, self.logins, self.processes, self.steps, self.registrations)
        return not any(counter.total() for counter in counters)

    @property
    def server_error_share(self) -> float | None:
        """Share of the requests that were answered with 5xx."""
        return self.status_classes["5xx"] / self.requests if self.requests else None

    @property
    def p95_ms(self) -> float | None:
        """The duration in ms that 95 % of the requests did not exceed (nearest rank)."""
        if not self.durations_ms:
            return None
        ranked = sorted(self.durations_ms)
        return ranked[-(-len(ranked) * 95 // 100) - 1]

    @property
    def failed_logins(self) -> int:
        """Number of failed sign-ins."""
        return self.logins[LoginAuditEvent.FAILED]

    @property
    def succeeded_share(self) -> float | None:
        """Share of the processes that succeeded."""
        total = self.processes.total()
        return self.processes[DerivedOutcome.SUCCEEDED] / total if total else None

    def _seen(self, row: AuditEvent) -> None:
        self.first = row.datetime if self.first is None else min(self.first, row.datetime)
        self.last = row.datetime if self.last is None else max(self.last, row.datetime)
        if row.service_name:
            self.services[row.service_name] += 1


def status_class(status_code: int | None) -> str:
    """Return ``2xx`` … ``5xx``, or an empty string where there is no status."""
    return f"{status_code // 100}xx" if status_code is not None and 100 <= status_code < 600 else ""
