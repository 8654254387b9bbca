"""The report as a download from the admin: whole for those who may see all of it, closed to everybody else."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pypdf import PdfReader

from otel_audit.models import AuditEvent, ProcessAuditEvent, RequestAuditEvent
from tests.admin.conftest import VIEWS, SignIn
from tests.reports.rows import at, store_request

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

REPORT = "/admin/otel_audit/processauditevent/report.pdf"


def text_of(response: Any) -> str:
    reader = PdfReader(io.BytesIO(response.getvalue()))
    response.close()
    return "\n".join(page.extract_text() for page in reader.pages)


@pytest.mark.parametrize(
    ("person", "status"),
    [
        ({"staff": False}, 302),
        ({"staff": False, "permissions": VIEWS}, 302),
        ({}, 403),
        *[({"permissions": [view for view in VIEWS if view != left_out]}, 403) for left_out in VIEWS],
        ({"permissions": VIEWS}, 200),
        ({"superuser": True}, 200),
    ],
)
def test_the_report_is_for_those_who_may_view_all_it_shows(
    sign_in: SignIn, person: dict[str, Any], status: int
) -> None:
    response = sign_in(**person).get(REPORT)

    response.close()
    assert response.status_code == status
    assert (response["Content-Type"] == "application/pdf") is (status == 200)


def test_somebody_who_is_not_signed_in_is_sent_to_the_sign_in_page(client: Client) -> None:
    response = client.get(REPORT)

    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")


def test_the_report_is_a_download_that_no_cache_keeps(auditor: Client) -> None:
    response = auditor.get(REPORT)
    content = response.getvalue()  # type: ignore[attr-defined]  # it is a FileResponse
    response.close()

    assert re.fullmatch(r'attachment; filename="audit-report-\d{8}T\d{6}Z\.pdf"', response["Content-Disposition"])
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in response["Cache-Control"]
    assert content.startswith(b"%PDF-")


def test_the_report_names_who_made_it(auditor: Client) -> None:
    assert "user-0 ·" in text_of(auditor.get(REPORT))


def test_the_report_covers_the_time_that_is_asked_for(auditor: Client) -> None:
    store_request(at(0), url="/inside/")
    store_request(at(60), url="/outside/")

    text = text_of(auditor.get(REPORT, {"since": "2026-11-24 12:00:00+00:00", "until": "2026-11-24T12:01:00Z"}))

    assert "/inside/" in text
    assert "/outside/" not in text


@pytest.mark.parametrize("written", ["yesterday", "2026-13-45T00:00:00", "\x00", "0001-01-01T00:00+14:00"])
@pytest.mark.parametrize("name", ["since", "until"])
def test_a_time_that_is_none_is_a_bad_request(auditor: Client, name: str, written: str) -> None:
    assert auditor.get(REPORT, {name: written}).status_code == 400


@pytest.mark.parametrize("model", [ProcessAuditEvent, RequestAuditEvent])
def test_the_list_has_a_button_for_the_report_of_the_same_time(auditor: Client, model: type[AuditEvent]) -> None:
    page = reverse(f"admin:otel_audit_{model._meta.model_name}_changelist")

    plain = auditor.get(page).content.decode()
    filtered = auditor.get(page, {"datetime__gte": "2026-11-24 00:00:00+00:00"}).content.decode()

    assert f'href="{page}report.pdf"' in plain
    assert f'href="{page}report.pdf?since=2026-11-24+00%3A00%3A00%2B00%3A00"' in filtered


def test_the_button_is_not_shown_to_those_who_may_not_have_the_report(sign_in: SignIn) -> None:
    client = sign_in(permissions=["view_processauditevent"])

    page = client.get(reverse("admin:otel_audit_processauditevent_changelist"))

    assert "report.pdf" not in page.content.decode()
