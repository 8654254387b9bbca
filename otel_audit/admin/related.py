"""Tables of related rows on the detail pages: only for users who may see those rows, and never without a limit."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final
from uuid import UUID

from django.db.models import F, Model
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from otel_audit.admin.base import AuditAdmin, Related, may_view
from otel_audit.admin.display import (
    NOTHING,
    actor_of,
    derived_mark,
    duration,
    listing_url,
    login_mark,
    mark,
    moment,
    record_link,
    registration_mark,
    shortened,
    status_mark,
    time,
)
from otel_audit.models import (
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit.outcomes import processes_with_outcome, steps_with_outcome

__all__ = ["logins_of", "processes_of", "registrations_of", "request_of", "step_of", "steps_of"]

#: Most related rows on one page; beyond it a link leads to the list of them.
LIMIT: Final = 500
_MOST_MISSING: Final = 20


def logins_of(admin: AuditAdmin, request: HttpRequest, event: RequestAuditEvent) -> list[Related]:
    """Return the sign-ins that happened in a request."""
    if not may_view(request, LoginAuditEvent):
        return []
    found = list(LoginAuditEvent.objects.filter(request=event.pk).order_by("pk")[: LIMIT + 1])
    rows = [
        [
            record_link(admin, LoginAuditEvent, login.pk, moment(login.datetime)),
            login_mark(login),
            shortened(login.username) if login.username else actor_of(login),
            login.method or NOTHING,
            login.reason or NOTHING,
        ]
        for login in found[:LIMIT]
    ]
    more = _more(admin, LoginAuditEvent, len(found), request=event.pk)
    columns = [_("Began at"), _("Event"), _("User name"), _("Method"), _("Reason")]
    return [Related(_("Sign-ins in this request"), columns, rows, more=more)] if rows else []


def processes_of(admin: AuditAdmin, request: HttpRequest, event: RequestAuditEvent) -> list[Related]:
    """Return the processes that a request began."""
    if not may_view(request, ProcessAuditEvent):
        return []
    processes = ProcessAuditEvent.objects.filter(request=event.pk).order_by("pk")
    found = list(processes_with_outcome(processes)[: LIMIT + 1])
    rows = [
        [
            record_link(admin, ProcessAuditEvent, process.pk, process.name or str(process.pk)),
            derived_mark(process.derived_outcome),
            time(process.datetime),
            duration(process.duration_ms),
        ]
        for process in found[:LIMIT]
    ]
    more = _more(admin, ProcessAuditEvent, len(found), request=event.pk)
    columns = [_("Process"), _("Outcome"), _("Began at"), _("Duration (ms)")]
    return [Related(_("Processes of this request"), columns, rows, more=more)] if rows else []


def request_of(admin: AuditAdmin, request: HttpRequest, row: Any) -> list[Related]:
    """Return the request that a sign-in or process belongs to."""
    if row.request_id is None or not may_view(request, RequestAuditEvent):
        return []
    columns = [_("Request"), _("Status"), _("Actor"), _("Began at"), _("Duration (ms)")]
    found = RequestAuditEvent.objects.filter(pk=row.request_id).first()
    rows = []
    if found is not None:
        link = record_link(admin, RequestAuditEvent, found.pk, f"{found.method} {found.url}"[:120])
        rows = [[link, status_mark(found), actor_of(found), time(found.datetime), duration(found.response_time)]]
    return [Related(_("Request"), columns, rows, _("The request left no record in this database."))]


def steps_of(admin: AuditAdmin, request: HttpRequest, process: Any) -> list[Related]:
    """Return the steps of a process, each with its registrations where the user may see them."""
    if not may_view(request, StepAuditEvent):
        return []
    ordered = StepAuditEvent.objects.filter(process=process.pk).order_by(F("order").asc(nulls_last=True), "pk")
    steps = list(steps_with_outcome(ordered)[: LIMIT + 1])
    columns = [_("Step or registration"), _("Result"), _("Registrations or remark"), _("Began at"), _("Duration (ms)")]
    table = _Table(len(columns))
    registrations, complete = _registrations(request, steps[:LIMIT])
    for step in steps[:LIMIT]:
        table.add(_step_cells(admin, step))
        if may_view(request, RegistrationAuditEvent):
            came = registrations.get(step.pk, [])
            table.add_registrations(admin, step, came, missing=complete or len(came) == step.arrived)
    more = _more(admin, StepAuditEvent, len(steps), process=process.pk)
    if not complete:
        more = format_html("{} {}", _("Not all registrations are shown; each step shows its own."), more)
    empty = _("No step of this process is on record.")
    return [Related(_("Steps and registrations"), columns, table.rows, empty, more, table.indented)]


def registrations_of(admin: AuditAdmin, request: HttpRequest, step: Any) -> list[Related]:
    """Return the registrations of a step, those that are missing too."""
    if not may_view(request, RegistrationAuditEvent):
        return []
    registrations = RegistrationAuditEvent.objects.filter(step=step.pk).order_by("datetime", "pk")
    found = list(registrations[: LIMIT + 1])
    columns = [_("Registration"), _("Result"), _("Remark"), _("Began at")]
    table = _Table(len(columns))
    table.add_registrations(admin, step, found[:LIMIT], missing=True)
    more = _more(admin, RegistrationAuditEvent, len(found), step=step.pk)
    return [Related(_("Registrations"), columns, table.rows, _("None was expected and none came."), more)]


def step_of(admin: AuditAdmin, request: HttpRequest, registration: RegistrationAuditEvent) -> list[Related]:
    """Return the step of a registration with a link to the process."""
    if registration.step_id is None or not may_view(request, StepAuditEvent):
        return []
    found = steps_with_outcome(StepAuditEvent.objects.filter(pk=registration.step_id)).first()
    rows = []
    if found is not None:
        process = record_link(admin, ProcessAuditEvent, found.process_id, str(found.process_id))
        rows = [[*_step_cells(admin, found), process]]
    columns = [_("Step"), _("Outcome"), _("Registrations"), _("Began at"), _("Duration (ms)"), _("Process")]
    return [Related(_("Step"), columns, rows, _("The step left no record in this database."))]


class _Table:
    """Rows of steps and registrations, and which of them are registrations."""

    def __init__(self, width: int) -> None:
        self._width = width
        self.rows: list[list[Any]] = []
        self.indented: frozenset[int] = frozenset()

    def add(self, cells: list[Any], *, indented: bool = False) -> None:
        if indented:
            self.indented |= {len(self.rows)}
        self.rows.append([*cells, *[NOTHING] * (self._width - len(cells))])

    def add_registrations(
        self, admin: AuditAdmin, step: Any, registrations: list[RegistrationAuditEvent], *, missing: bool
    ) -> None:
        expected = step.total_registrations
        for number, registration in enumerate(registrations, start=1):
            beyond = _("beyond the {expected} expected").format(expected=expected) if number > expected else ""
            self.add(_registration_cells(admin, registration, beyond), indented=True)
        lacking = expected - step.arrived
        if not missing or lacking <= 0:
            return
        for _number in range(min(lacking, _MOST_MISSING)):
            self.add(_missing_cells(_("No registration")), indented=True)
        if lacking > _MOST_MISSING:
            text = ngettext("No registration, {count} more", "No registration, {count} more", lacking)
            self.add(_missing_cells(text.format(count=lacking - _MOST_MISSING)), indented=True)


def _registrations(
    request: HttpRequest, steps: list[Any]
) -> tuple[dict[UUID | None, list[RegistrationAuditEvent]], bool]:
    """Return the registrations of ``steps`` by step, and whether these are all of them."""
    by_step: dict[UUID | None, list[RegistrationAuditEvent]] = defaultdict(list)
    if not may_view(request, RegistrationAuditEvent):
        return by_step, True
    queryset = RegistrationAuditEvent.objects.filter(step__in=[step.pk for step in steps])
    found = list(queryset.order_by("datetime", "pk")[: LIMIT + 1])
    for registration in found[:LIMIT]:
        by_step[registration.step_id].append(registration)
    return by_step, len(found) <= LIMIT


def _step_cells(admin: AuditAdmin, step: Any) -> list[Any]:
    name = step.name if step.order is None else f"{step.order}. {step.name}"
    came = _("{came} of {expected}").format(came=step.arrived, expected=step.total_registrations)
    return [
        record_link(admin, StepAuditEvent, step.pk, name or str(step.pk)),
        derived_mark(step.derived_outcome),
        came,
        time(step.datetime),
        duration(step.duration_ms),
    ]


def _registration_cells(admin: AuditAdmin, registration: RegistrationAuditEvent, beyond: str) -> list[Any]:
    return [
        record_link(admin, RegistrationAuditEvent, registration.pk, registration.name or str(registration.pk)),
        registration_mark(registration),
        beyond or shortened(registration.description or "", 120),
        time(registration.datetime),
    ]


def _missing_cells(text: str) -> list[Any]:
    return [text, mark("warn", _("missing")), NOTHING, NOTHING]


def _more(admin: AuditAdmin, model: type[Model], found: int, **lookups: UUID) -> str | SafeString:
    if found <= LIMIT:
        return ""
    text = _("There are more than {limit}: show all").format(limit=LIMIT)
    exact = {f"{name}__id__exact": str(value) for name, value in lookups.items()}
    return format_html('<a href="{}">{}</a>', listing_url(admin, model, **exact), text)
