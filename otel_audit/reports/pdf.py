"""The audit report as PDF: cover, contents, summary, processes, sign-ins, requests, written in one pass over the rows.

What began in the scope is shown, nothing is hidden, and every number is counted from the rows on the pages. Nothing is
fetched and no text is parsed, so a value in a row can neither reach the network nor change the document.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import BinaryIO
from uuid import UUID

from django.utils.translation import gettext as _

import otel_audit
from otel_audit.conf import conf
from otel_audit.reports.cover import Cover, write_cover, write_summary
from otel_audit.reports.events import write_logins, write_requests
from otel_audit.reports.processes import write_families, write_processes
from otel_audit.reports.rows import Scope
from otel_audit.reports.sheet import Sheet
from otel_audit.reports.tally import Tally
from otel_audit.reports.wording import moment

__all__ = ["write_process", "write_report"]


def write_report(
    target: BinaryIO,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    generated_by: str,
    filters: str = "",
) -> int:
    """Write the report to ``target``.

    Args:
        target: binary file that the PDF is written to.
        since: aware; records that began before it are left out.
        until: aware; records that began at or after it are left out.
        generated_by: who asked for the report, as it shall stand on the cover.
        filters: what else narrows the report, as it shall stand on the cover.

    Returns:
        The number of pages.
    """
    scope, tally = Scope.of(since, until), Tally()
    at, version = _generated()
    sheet = _sheet(target, at, version, generated_by)
    cover = Cover(scope, f"{generated_by} · {at} · {version}", filters)

    write_cover(sheet, cover)
    sheet.new_page()
    write_summary(sheet, cover)
    sheet.new_page()
    sheet.section("processes", _("Processes"))
    write_processes(sheet, scope, tally)
    sheet.section("logins", _("Sign-ins"))
    write_logins(sheet, scope, tally)
    sheet.section("requests", _("Requests"))
    write_requests(sheet, scope, tally)

    cover.fill_in(sheet, tally)
    return sheet.finish(_service(tally))


def write_process(target: BinaryIO, process_id: UUID | str | None, *, generated_by: str) -> int:
    """Write one process with its steps and registrations to ``target``, without cover and summary.

    Args:
        target: binary file that the PDF is written to.
        process_id: record id of the process; where it has left no row, the page says so.
        generated_by: who asked for it, as it shall stand at the foot of the page.

    Returns:
        The number of pages: one, where the process has no more than some fifty steps and registrations.
    """
    tally = Tally()
    sheet = _sheet(target, *_generated(), generated_by)
    sheet.new_page()
    sheet.section("processes", _("Processes"))
    write_families(sheet, Scope().processes().filter(pk=process_id), tally)
    return sheet.finish(_service(tally))


def _generated() -> tuple[str, str]:
    """Return when, and by which version, a document is written."""
    return moment(datetime.now(UTC), "seconds") + " UTC", f"otel-audit {otel_audit.__version__}"


def _sheet(target: BinaryIO, at: str, version: str, generated_by: str) -> Sheet:
    return Sheet(target, title=_("Audit report"), author=generated_by, footer=f"{version} · {at} · {generated_by}")


def _service(tally: Tally) -> str:
    """Return the services that the rows name; without rows, what this site calls itself."""
    return ", ".join(tally.named_services) if tally.services else conf.service_name or ""
