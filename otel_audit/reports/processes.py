"""The section of processes: each with its steps, each step with what it registered, lacks and did beyond.

Beside the words a bar per span shows when it began and how long it took, on one scale for each process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db.models import F, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from otel_audit.models import RegistrationAuditEvent, StepAuditEvent
from otel_audit.outcomes import steps_with_outcome
from otel_audit.reports.rows import Scope, in_batches
from otel_audit.reports.sheet import BLUE, FILL, GREEN, GREY, INK, LEFT, RED, RIGHT, WIDTH, Sheet
from otel_audit.reports.tally import Tally
from otel_audit.reports.typeface import BOLD, SANS, fit, wrap
from otel_audit.reports.wording import (
    NOTHING,
    Mark,
    count,
    derived,
    duration,
    missing,
    moment,
    registered,
    status_cell,
    who,
)
from otel_audit.trace_links import trace_url

__all__ = ["write_families", "write_processes"]

_BATCH: Final = 50
_MOST_OUTLINED: Final = 2000
_MOST_MISSING_SHOWN: Final = 20
_LINE: Final = 9.0
_SIZE: Final = 6.8
_LABEL: Final = 212.0
_STATE: Final = 92.0
_STATE_WORD: Final = 62.0
_BARS: Final = LEFT + _LABEL + _STATE
_BARS_WIDTH: Final = RIGHT - _BARS - 34
_INDENT: Final = 12.0
#: What a title of two lines takes, and what stands below it on the same page at the least.
_TITLE_HEIGHT: Final = 40.0
_FIRST_ENTRIES: Final = 90.0


class Entry(NamedTuple):
    """One line below the title of a process: a span or a registration."""

    label: str
    mark: Mark | None
    depth: int = 0
    note: str = ""
    detail: str = ""
    began: datetime | None = None
    duration_ms: float | None = None


class Family(NamedTuple):
    """A process with what belongs to it."""

    process: Any
    steps: Sequence[Any]
    registrations: dict[UUID, list[RegistrationAuditEvent]]


def write_processes(sheet: Sheet, scope: Scope, tally: Tally) -> None:
    """Write the processes, then the steps and registrations whose process or step left no row."""
    write_families(sheet, scope.processes(), tally)
    _write_orphans(sheet, scope, tally)


def write_families(sheet: Sheet, processes: QuerySet[Any], tally: Tally) -> None:
    """Write the processes of ``processes``, which `Scope.processes` has made, each with what belongs to it."""
    written = 0
    for batch in in_batches(processes, _BATCH):
        for family in _families(batch):
            _write_family(sheet, family, tally, outlined=written < _MOST_OUTLINED)
            written += 1
    if not written:
        sheet.note(_("No processes in this scope."))


def _families(processes: Sequence[Any]) -> Iterator[Family]:
    steps: dict[UUID, list[Any]] = defaultdict(list)
    ids = [process.pk for process in processes]
    ordered = StepAuditEvent.objects.filter(process__in=ids).order_by(F("order").asc(nulls_last=True), "pk")
    for step in steps_with_outcome(ordered):
        steps[step.process_id].append(step)
    registrations = _registrations([step.pk for group in steps.values() for step in group])
    for process in processes:
        yield Family(process, steps[process.pk], registrations)


def _registrations(step_ids: Sequence[UUID]) -> dict[UUID, list[RegistrationAuditEvent]]:
    found: dict[UUID, list[RegistrationAuditEvent]] = defaultdict(list)
    for registration in RegistrationAuditEvent.objects.filter(step__in=step_ids).order_by("datetime", "pk"):
        found[registration.step_id].append(registration)
    return found


def _write_family(sheet: Sheet, family: Family, tally: Tally, *, outlined: bool) -> None:
    process = family.process
    mark = derived(process.derived_outcome)
    tally.process(process, process.derived_outcome)
    entries = [*_request_entries(process), _process_entry(process, mark), *_step_entries(family, tally)]
    sheet.need(_TITLE_HEIGHT + _FIRST_ENTRIES)
    if outlined:
        sheet.outline(f"process-{process.pk}", f"{mark.sign} {process.name}")
    _title(sheet, process.name, mark, _facts(process))
    if (url := trace_url(process)) is not None:
        sheet.link_out(url, LEFT, sheet.y + 2, WIDTH, 9)
    _Timeline(sheet, process.name, entries).write()


def _title(sheet: Sheet, name: str, mark: Mark, facts: str) -> None:
    sheet.y -= 14
    top = sheet.y
    for line in wrap(name, WIDTH - 90, BOLD, 9.5, 2):
        sheet.text(LEFT, sheet.y, line, BOLD, 9.5)
        sheet.y -= 11
    sheet.text(RIGHT, top, f"{mark.sign} {mark.word}", BOLD, 8.5, mark.color, align="right")
    sheet.text(LEFT, sheet.y, fit(facts, WIDTH, SANS, 6.8), SANS, 6.8, GREY)
    sheet.y -= 4


def _facts(process: Any) -> str:
    facts = [moment(process.datetime) + " UTC", who(process.actor_name, process.created_by).text]
    if process.duration_ms is not None:
        facts.append(duration(process.duration_ms))
    if process.trace_id:
        facts.append(_("trace {trace_id}").format(trace_id=process.trace_id))
    return " · ".join(facts)


def _request_entries(process: Any) -> Iterator[Entry]:
    request = process.request  # selected with the process: None where it left no row
    if request is None:
        return
    cell = status_cell(request.status_code, request.outcome)
    sign, _space, word = cell.text.partition(" ")
    # A process that outlived its request, or was resumed elsewhere, has a scale of its own.
    around = (
        request.datetime <= process.datetime <= request.datetime + timedelta(milliseconds=request.response_time or 0.0)
    )
    yield Entry(
        f"{request.method} {request.url}",
        Mark(sign, word, cell.color),
        began=request.datetime if around else None,
        duration_ms=request.response_time,
    )


def _process_entry(process: Any, mark: Mark) -> Entry:
    return Entry(
        _("process"),
        mark,
        depth=1,
        detail=_detail(process),
        began=process.datetime,
        duration_ms=process.duration_ms,
    )


def _step_entries(family: Family, tally: Tally) -> Iterator[Entry]:
    if not family.steps:
        yield Entry(_("No step"), missing(), depth=2)
    for step in family.steps:
        yield from _step_and_registrations(step, family.registrations.get(step.pk, []), tally)


def _step_and_registrations(
    step: Any, registrations: Sequence[RegistrationAuditEvent], tally: Tally, depth: int = 2
) -> Iterator[Entry]:
    expected = step.total_registrations
    lacking = max(expected - len(registrations), 0)
    tally.step(step, step.derived_outcome, lacking)
    yield Entry(
        step.name if step.order is None else f"{step.order}  {step.name}",
        derived(step.derived_outcome),
        depth=depth,
        note=_("{came} of {expected}").format(came=len(registrations), expected=expected),
        detail=_detail(step),
        began=step.datetime,
        duration_ms=step.duration_ms,
    )
    for number, registration in enumerate(registrations, start=1):
        beyond = _("beyond the {expected} expected").format(expected=expected) if number > expected else ""
        yield _registration_entry(registration, depth + 1, beyond, tally)
    yield from _missing_entries(lacking, depth + 1)


def _registration_entry(registration: RegistrationAuditEvent, depth: int, remark: str, tally: Tally) -> Entry:
    tally.registration(registration)
    return Entry(
        registration.name or NOTHING,
        registered(registration.success),
        depth=depth,
        detail=" · ".join(part for part in (remark, registration.description) if part),
        began=registration.datetime,
    )


def _missing_entries(lacking: int, depth: int) -> Iterator[Entry]:
    for _number in range(min(lacking, _MOST_MISSING_SHOWN)):
        yield Entry(_("No registration"), missing(), depth=depth)
    more = lacking - _MOST_MISSING_SHOWN
    if more > 0:
        text = ngettext("No registration, {count} more", "No registration, {count} more", more)
        yield Entry(text.format(count=count(more)), missing(), depth=depth)


def _detail(row: Any) -> str:
    """Return the description, and what a process or step raised."""
    extra = row.extra_informations
    error = extra.get("exception") if isinstance(extra, dict) else None
    raised = ""
    if isinstance(error, dict) and error.get("type"):
        raised = ": ".join(str(part) for part in (error["type"], error.get("message")) if part)
    return " · ".join(part for part in (row.description, raised) if part)


def _write_orphans(sheet: Sheet, scope: Scope, tally: Tally) -> None:
    for number, batch in enumerate(in_batches(scope.steps_without_process(), _BATCH)):
        if number == 0:
            sheet.heading(_("Steps whose process left no record"))
        registrations = _registrations([step.pk for step in batch])
        for step in batch:
            entries = _step_and_registrations(step, registrations.get(step.pk, []), tally, depth=0)
            _Timeline(sheet, step.name, list(entries)).write()
    for number, batch in enumerate(in_batches(scope.registrations_without_step(), _BATCH)):
        if number == 0:
            sheet.heading(_("Registrations whose step left no record"))
        lines = [_registration_entry(row, 0, moment(row.datetime) + " UTC", tally) for row in batch]
        _Timeline(sheet, _("Registrations"), lines, bars=False).write()


class _Timeline:
    """The entries of one process with a bar each, on a scale from the first beginning to the last end."""

    def __init__(self, sheet: Sheet, title: str, entries: Sequence[Entry], *, bars: bool = True) -> None:
        self._sheet = sheet
        self._title = title
        self._entries = entries
        starts = [entry.began for entry in entries if entry.began is not None]
        self._bars = bars and bool(starts)
        self._start = min(starts, default=datetime.min.replace(tzinfo=UTC))
        self._span_ms = max((self._end_ms(entry) for entry in entries if entry.began), default=0.0)

    def write(self) -> None:
        """Write the scale and every entry, going on over pages; what is short stays together."""
        self._sheet.need(min(14 * len(self._entries) + 12, _FIRST_ENTRIES))
        if self._bars:
            self._scale()
        for index, entry in enumerate(self._entries):
            self._entry(entry, shaded=index % 2 == 0)
        self._sheet.y -= 6

    def _end_ms(self, entry: Entry) -> float:
        return self._offset_ms(entry) + (entry.duration_ms or 0.0)

    def _offset_ms(self, entry: Entry) -> float:
        return 0.0 if entry.began is None else (entry.began - self._start) / timedelta(milliseconds=1)

    def _x(self, offset_ms: float) -> float:
        return _BARS + (_BARS_WIDTH * offset_ms / self._span_ms if self._span_ms else 0.0)

    def _scale(self) -> None:
        self._sheet.y -= 9
        for quarter in range(5):
            offset = self._span_ms * quarter / 4
            text = duration(offset) if quarter else "0"
            self._sheet.text(self._x(offset) if self._span_ms else _BARS, self._sheet.y + 1, text, SANS, 5.6, GREY)
            if not self._span_ms:
                break
        self._sheet.y -= 2

    def _entry(self, entry: Entry, *, shaded: bool) -> None:
        sheet = self._sheet
        indent = entry.depth * _INDENT
        label = wrap(entry.label, _LABEL - indent - 6, SANS, _SIZE, 3)
        detail = wrap(entry.detail, WIDTH - indent - 16, SANS, _SIZE - 0.6, 3) if entry.detail else []
        high = len(label) * _LINE + len(detail) * (_LINE - 1) + 4
        if sheet.need(high):
            self._continued()
        if shaded:
            sheet.box(LEFT, sheet.y - high, WIDTH, high, FILL)
        y = sheet.y - _LINE
        for line in label:
            sheet.text(LEFT + indent + 3, y, line, SANS, _SIZE)
            y -= _LINE
        for line in detail:
            sheet.text(LEFT + indent + 9, y + 0.5, line, SANS, _SIZE - 0.6, GREY)
            y -= _LINE - 1
        self._state(entry, sheet.y - _LINE)
        if self._bars:
            self._grid(high)
            self._bar(entry)
        sheet.y -= high

    def _state(self, entry: Entry, y: float) -> None:
        if entry.mark is None:
            return
        text = fit(f"{entry.mark.sign} {entry.mark.word}", _STATE_WORD, SANS, _SIZE)
        self._sheet.text(LEFT + _LABEL, y, text, SANS, _SIZE, entry.mark.color)
        note = fit(entry.note, _STATE - _STATE_WORD, SANS, _SIZE - 1)
        self._sheet.text(LEFT + _LABEL + _STATE_WORD, y, note, SANS, _SIZE - 1, GREY)

    def _grid(self, high: float) -> None:
        for quarter in range(5):
            x = self._x(self._span_ms * quarter / 4)
            self._sheet.canvas.setStrokeColor(FILL)
            self._sheet.canvas.setLineWidth(0.5)
            self._sheet.canvas.line(x, self._sheet.y, x, self._sheet.y - high)

    def _bar(self, entry: Entry) -> None:
        if entry.began is None:
            return
        sheet, x = self._sheet, self._x(self._offset_ms(entry))
        failed = entry.mark is not None and entry.mark.color is RED
        if entry.duration_ms is None:
            color = RED if failed else GREEN
            sheet.box(x - 0.8, sheet.y - 10.5, 1.6, 8, color)
            return
        wide = max(self._x(self._end_ms(entry)) - x, 1.2)
        sheet.box(x, sheet.y - 9.5, wide, 6, RED if failed else BLUE, radius=1.2)
        text = duration(entry.duration_ms)
        sheet.text(x + wide + 3, sheet.y - 8.8, text, SANS, 5.6, GREY)

    def _continued(self) -> None:
        sheet = self._sheet
        sheet.y -= 10
        text = _("{name}, continued").format(name=fit(self._title, WIDTH - 90, BOLD, 7.5))
        sheet.text(LEFT, sheet.y, fit(text, WIDTH, BOLD, 7.5), BOLD, 7.5, INK)
        sheet.y -= 5
