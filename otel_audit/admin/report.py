"""The PDF report as a download, for users who may see every kind of row that it shows."""

from __future__ import annotations

from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import Final

from django.core.exceptions import BadRequest, PermissionDenied
from django.http import FileResponse, HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.http import urlencode

from otel_audit.models import (
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit.reports import write_report

__all__ = ["may_download", "report_query", "report_view"]

_SHOWN: Final = (
    RequestAuditEvent,
    LoginAuditEvent,
    ProcessAuditEvent,
    StepAuditEvent,
    RegistrationAuditEvent,
)
#: Parameter of the report → the parameter by which the lists filter on the time.
_TIMES: Final = {"since": "datetime__gte", "until": "datetime__lt"}


def may_download(request: HttpRequest) -> bool:
    """Say whether the user may view all five kinds of rows."""
    return request.user.has_perms([f"otel_audit.view_{model._meta.model_name}" for model in _SHOWN])


def report_query(request: HttpRequest) -> str:
    """Return the query by which the report covers the same time as the list that the user looks at."""
    times = {name: request.GET[lookup] for name, lookup in _TIMES.items() if request.GET.get(lookup)}
    return f"?{urlencode(times)}" if times else ""


def report_view(request: HttpRequest) -> FileResponse:
    """Return the report; to be wrapped by ``AdminSite.admin_view``, which sends others to the sign-in page."""
    if not may_download(request):
        raise PermissionDenied
    since, until = _time(request, "since"), _time(request, "until")
    file = TemporaryFile()  # noqa: SIM115  # the response closes it
    try:
        write_report(file, since=since, until=until, generated_by=request.user.get_username())
    except BaseException:
        file.close()
        raise
    file.seek(0)
    name = f"audit-report-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.pdf"
    response = FileResponse(file, as_attachment=True, filename=name, content_type="application/pdf")
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _time(request: HttpRequest, name: str) -> datetime | None:
    written = request.GET.get(name)
    if not written:
        return None
    try:
        parsed = parse_datetime(written)
        if parsed is not None and parsed.tzinfo is not None:
            parsed = parsed.astimezone(UTC)
    except (ValueError, OverflowError):  # the year 1 of a place east of Greenwich began in no year that Python has
        parsed = None
    if parsed is None:
        raise BadRequest(f"{name} is no time; write 2026-11-24T10:00:00+00:00.")
    return parsed
