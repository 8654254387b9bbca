"""The sections that are tables: sign-ins and requests."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from otel_audit.models import LoginAuditEvent, RequestAuditEvent
from otel_audit.reports.rows import Scope, in_batches
from otel_audit.reports.sheet import GREY, RED, Sheet
from otel_audit.reports.table import Cell, Column, Table
from otel_audit.reports.tally import Tally
from otel_audit.reports.typeface import MONO
from otel_audit.reports.wording import NOTHING, login_cell, milliseconds, moment, status_cell, trace, who

__all__ = ["write_logins", "write_requests"]

_TIME = 90.0
_TRACE = 68.0
_PATH = 3  # place among the columns of requests


def write_logins(sheet: Sheet, scope: Scope, tally: Tally) -> None:
    """Write the sign-ins, sign-outs, failed attempts and token events."""
    table: Table | None = None
    for batch in in_batches(scope.logins()):
        table = table or Table(sheet, _login_columns())
        for login in batch:
            table.row(_login_cells(login))
            tally.login(login)
    if table is None:
        sheet.note(_("No sign-in events in this scope."))


def write_requests(sheet: Sheet, scope: Scope, tally: Tally) -> None:
    """Write the requests; below one its path where the column is too narrow for it, and what it raised."""
    table: Table | None = None
    columns = _request_columns()
    for batch in in_batches(scope.requests()):
        table = table or Table(sheet, columns)
        for request in batch:
            cells = _request_cells(request)
            path = cells[_PATH]
            table.row(cells, [*(() if columns[_PATH].holds(path.text) else (path,)), *_error(request)])
            tally.request(request)
    if table is None:
        sheet.note(_("No requests in this scope."))


def _login_columns() -> list[Column]:
    return [
        Column(_("Time (UTC)"), _TIME),
        Column(_("Event"), 62),
        Column(_("User name"), 92),
        Column(_("Method"), 56),
        Column(_("Reason"), 70),
        Column(pgettext("address", "From"), 61),
        Column(_("Trace"), _TRACE, MONO, 5.6),
    ]


def _login_cells(login: LoginAuditEvent) -> list[Cell]:
    request = login.request  # selected with the row: None where it left none
    return [
        Cell(moment(login.datetime)),
        login_cell(login),
        who(login.username or login.actor_name, login.user),
        Cell(login.method, GREY),
        Cell(login.reason),
        Cell((request.ip_addresses if request else "") or NOTHING, GREY),
        trace(login),
    ]


def _request_columns() -> list[Column]:
    return [
        Column(_("Time (UTC)"), _TIME),
        Column(_("Actor"), 76),
        Column(_("Method"), 38),
        Column(_("Path"), 141),
        Column(_("Status"), 42),
        Column(pgettext("unit", "ms"), 44, align="right"),
        Column(_("Trace"), _TRACE, MONO, 5.6),
    ]


def _request_cells(request: RequestAuditEvent) -> list[Cell]:
    return [
        Cell(moment(request.datetime)),
        who(request.actor_name, request.user),
        Cell(request.method),
        Cell(f"{request.url}?{request.query_params}" if request.query_params else request.url),
        status_cell(request.status_code, request.outcome),
        Cell(milliseconds(request.response_time)),
        trace(request),
    ]


def _error(request: RequestAuditEvent) -> list[Cell]:
    if not request.error_type:
        return []
    message = f": {request.error_message}" if request.error_message else ""
    return [Cell(f"{request.error_type}{message}", RED)]
