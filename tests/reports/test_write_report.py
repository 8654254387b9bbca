"""The PDF report: what it shows, what it counts, and that nothing in a row can change the document."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from pypdf import PdfReader
from pypdf.generic import Destination

from otel_audit.ids import record_id
from otel_audit.models import LoginAuditEvent, RegistrationAuditEvent, RequestAuditEvent
from otel_audit.reports import write_process, write_report
from otel_audit.reports.rows import in_batches
from tests.reports.rows import (
    NOON,
    at,
    store_login,
    store_process,
    store_registration,
    store_request,
    store_step,
)

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


class Report:
    """A written report, read back."""

    def __init__(self, **options: Any) -> None:
        target = io.BytesIO()
        self.pages = write_report(target, **{"generated_by": "auditor@example.com", **options})
        self.reader = PdfReader(target, strict=True)
        self.texts = [page.extract_text() for page in self.reader.pages]
        self.text = "\n".join(self.texts)

    def outline(self) -> list[Any]:
        return list(self.reader.outline)


def test_a_report_of_no_rows_is_a_valid_document_that_says_so() -> None:
    report = Report()

    assert report.pages == len(report.reader.pages)
    assert "none: nothing was recorded in this scope" in report.texts[0]
    for sentence in ("No processes in", "No sign-in events in", "No requests in"):
        assert sentence in report.text


def test_the_cover_says_who_made_the_report_of_what() -> None:
    store_request(service_name="shop-backend")

    report = Report(since=NOON, until=at(60), generated_by="anna@example.com", filters="status 5xx")

    cover = report.texts[0]
    assert "anna@example.com" in cover
    assert "otel-audit 0." in cover
    assert "status 5xx" in cover
    assert "shop-backend" in cover
    assert "2026-11-24 12:00:00.000000 UTC to 2026-11-24 12:01:00.000000 UTC" in cover


@pytest.mark.parametrize(
    ("others", "cover", "header"),
    [([], "without a name", "Audit report\nPage 2"), (["till"], "till, without a name", "Audit report\ntill\n")],
)
def test_a_service_without_a_name_is_called_so_on_the_cover_alone(others: list[str], cover: str, header: str) -> None:
    for name in ["unknown_service:python", *others]:
        store_request(service_name=name)

    report = Report()

    assert f"Service {cover}\n" in report.texts[0]
    assert report.texts[1].startswith(header)
    assert "unknown_service" not in report.text


def test_the_document_names_its_author_and_title() -> None:
    report = Report(generated_by="anna@example.com")

    assert report.reader.metadata is not None
    assert (report.reader.metadata.title, report.reader.metadata.author) == ("Audit report", "anna@example.com")


def test_every_page_says_which_of_how_many_it_is() -> None:
    for number in range(150):
        store_request(at(number))

    report = Report()

    assert report.pages > 4
    for number, text in enumerate(report.texts, start=1):
        assert re.search(rf"Page {number} of\s+{report.pages}\b", text)


def test_the_contents_and_the_outline_lead_to_the_sections() -> None:
    for number in range(120):
        store_login(at(number))
    store_process()

    report = Report()

    contents = dict(re.findall(r"^(Summary|Processes|Sign-ins|Requests) (\d+)$", report.texts[0], re.MULTILINE))
    sections = {
        entry.title: str(report.reader.get_destination_page_number(entry) + 1)
        for entry in report.outline()
        if isinstance(entry, Destination) and entry.title in contents
    }
    assert sections == contents
    assert len(set(contents.values())) > 2
    for title, page in contents.items():
        assert title in report.texts[int(page) - 1]


def test_processes_are_in_the_outline_with_the_sign_of_their_outcome() -> None:
    store_registration(store_step(store_process(name="Good")))
    store_process(at(1), name="Empty " + "x" * 200)

    report = Report()

    [nested] = [entry for entry in report.outline() if isinstance(entry, list)]
    assert [entry.title for entry in nested] == ["✓ Good", "◐ Empty " + "x" * 72]


def test_a_process_is_shown_with_its_steps_and_registrations() -> None:
    process = store_process(name="Create product", description="From the form", actor_name="anna")
    step = store_step(process, name="Validate data", order=1, total_registrations=2)
    store_registration(step, name="price ok", description="12.00 EUR", moment=at(0.0002))
    store_registration(step, name="code ok", moment=at(0.0001))

    text = Report().text

    for shown in ("✓ succeeded", "From the form", "anna", "1  Validate data", "2 of 2", "12.00 EUR"):
        assert shown in text
    assert text.index("code ok") < text.index("price ok")
    assert "No registration" not in text


def test_a_registration_that_did_not_come_is_shown_as_missing() -> None:
    step = store_step(store_process(), total_registrations=3)
    store_registration(step)

    text = Report().text

    assert text.count("No registration ◐ missing") == 2
    assert "◐ incomplete" in text
    assert "1 of 3" in text


def test_thousands_of_missing_registrations_are_counted_not_listed() -> None:
    store_step(store_process(), total_registrations=2_000_000)

    report = Report()

    assert "No registration, 1 999 980 more" in report.text.replace("\N{NO-BREAK SPACE}", " ")
    assert report.pages < 6


def test_registrations_beyond_the_expected_number_are_shown_and_a_failure_among_them_counts() -> None:
    step = store_step(store_process(), total_registrations=1)
    store_registration(step, name="expected one", moment=at(1))
    store_registration(step, success=False, name="surprise", moment=at(2))

    text = Report().text

    assert "beyond the 1 expected" in text
    assert "surprise" in text
    assert "✗ processes failed" in text


def test_a_process_without_steps_shows_that_there_are_none() -> None:
    store_process()

    text = Report().text

    assert "No step" in text
    assert "◐ incomplete" in text


def test_what_a_process_raised_is_shown() -> None:
    store_process(
        outcome="failure",
        extra_informations={"exception": {"type": "PaymentDeclined", "message": "no funds"}},
    )

    assert "PaymentDeclined: no funds" in Report().text


@pytest.mark.parametrize("extra", [None, [], "text", {"exception": "text"}, {"exception": {"type": ""}}])
def test_extra_information_of_any_shape_is_no_trouble(extra: Any) -> None:
    store_process(description="described", extra_informations=extra)

    assert "described" in Report().text


def test_the_request_of_a_process_is_shown_even_when_the_process_outlived_it() -> None:
    request = store_request(method="POST", url="/api/imports/", response_time=5.0, status_code=202)
    store_process(at(600), request=request, duration_ms=60_000.0)

    text = Report().text

    assert "POST /api/imports/" in text
    assert "60 s" in text


def test_rows_whose_parents_left_no_record_are_shown() -> None:
    lost_step = store_step(None, name="step of a lost process")
    store_registration(lost_step, name="known step")
    RegistrationAuditEvent.objects.create(step_id=UUID(record_id()), success=False, name="registration of a lost step")
    store_login(request_id=UUID(record_id()), username="anna")
    store_process(name="process of a lost request", request_id=UUID(record_id()))

    text = Report().text

    for shown in ("step of a lost process", "known step", "registration of a lost step", "process of a lost request"):
        assert text.count(shown) == 1
    assert "Steps whose process left no record" in text
    assert "Registrations whose step left no record" in text


def test_a_long_process_goes_on_over_pages_under_its_name() -> None:
    step = store_step(store_process(name="Bulk import"), total_registrations=150)
    for number in range(150):
        store_registration(step, name=f"line {number}", moment=at(number))

    report = Report()

    assert "Bulk import, continued" in report.text
    for number in range(150):
        assert f"line {number}\n" in report.text or f"line {number} " in report.text


def test_the_name_of_a_process_stands_on_the_page_of_its_first_line() -> None:
    for number in range(60):
        step = store_step(store_process(name="A name of two lines " * 8, actor_name="anna"), total_registrations=4)
        for registration in range(1 + number % 7):
            store_registration(step, name=f"line {registration}")

    report = Report()

    for text in report.texts:
        assert text.count(" UTC · anna") == len(re.findall(r"^process ", text, re.MULTILINE))
    assert report.text.count(" UTC · anna") == 60


def test_requests_show_actor_path_status_and_what_was_raised() -> None:
    store_request(actor_name="anna", method="PATCH", url="/api/products/7/", query_params="page=2", response_time=41.6)
    store_request(at(1), status_code=500, error_type="ValueError", error_message="no number:\nx")
    store_request(at(2), status_code=None)
    store_request(at(3), user="17")

    text = Report().text

    for shown in ("anna", "PATCH", "/api/products/7/?page=2", "✓ 200", "42", "✗ 500", "? none", "user 17", "anonymous"):
        assert shown in text
    assert r"ValueError: no number:\nx" in text


def test_a_path_that_its_column_cuts_stands_whole_below_it() -> None:
    store_request(url="/api/orders/" + "0123456789/" * 20 + "end/", query_params="page=1")
    store_request(at(1), url="/api/short/")

    text = Report().text

    assert "0123456789/end/?page=1" in text.replace("\n", "")
    assert text.count("/api/short/") == 1


def test_a_long_error_goes_on_over_lines() -> None:
    store_request(status_code=500, error_type="ValueError", error_message="word " * 60 + "end")

    assert "word end" in Report().text


def test_sign_ins_show_name_reason_and_address() -> None:
    request = store_request(ip_addresses="192.0.2.7")
    store_login(username="anna", method="simplejwt", request=request)
    store_login(at(1), status=LoginAuditEvent.FAILED, outcome="failure", username="bert", reason="wrong password")
    store_login(at(2), status="Password change", user="17")

    text = Report().text

    for shown in (
        "✓ Sign in",
        "simplejwt",
        "192.0.2.7",
        "✗ Failed",
        "bert",
        "wrong password",
        "Password change",
        "user 17",
    ):
        assert shown in text


def test_the_summary_counts_the_rows_that_the_report_shows() -> None:
    for number, status in enumerate([200] * 17 + [404, 500, 503]):
        store_request(at(number), status_code=status, response_time=float(number + 1))
    store_login(status=LoginAuditEvent.FAILED, outcome="failure")
    good = store_step(store_process())
    store_registration(good)
    store_process(at(1), outcome="failure")

    summary = Report().texts[1]

    assert re.search(r"^20\nrequests$", summary, re.MULTILINE)
    assert re.search(r"^10 %\nanswered with 5xx$", summary, re.MULTILINE)
    assert re.search(r"^19 ms\n95 % answered within$", summary, re.MULTILINE)
    assert re.search(r"^1\nfailed sign-ins$", summary, re.MULTILINE)
    assert re.search(r"^50 %\nprocesses succeeded$", summary, re.MULTILINE)
    assert "per minute" in summary
    assert re.search(r"^Total 20$", summary, re.MULTILINE)


def test_rows_outside_the_scope_are_left_out() -> None:
    store_request(at(-1), url="/before/")
    store_request(at(0), url="/first/")
    store_request(at(59), url="/last/")
    store_request(at(60), url="/after/")
    store_login(at(-1), username="too-early")
    store_process(at(60), name="too late")

    text = Report(since=NOON, until=at(60)).text

    assert "/first/" in text
    assert "/last/" in text
    for outside in ("/before/", "/after/", "too-early", "too late"):
        assert outside not in text


def test_a_scope_that_is_open_at_one_end_is_named_as_such() -> None:
    store_request(at(0), url="/before/")
    store_request(at(60), url="/after/")

    since, until = Report(since=at(60)), Report(until=at(60))

    assert "since 2026-11-24 12:01 UTC" in since.texts[0]
    assert "/before/" not in since.text
    assert "until 2026-11-24 12:01 UTC" in until.texts[0]
    assert "/after/" not in until.text


def test_rows_come_in_batches_each_once_and_none_that_is_written_meanwhile() -> None:
    stored = [store_request(at(number)).pk for number in range(7)]
    seen: list[UUID] = []

    for batch in in_batches(RequestAuditEvent.objects.all(), size=2):
        seen += [row.pk for row in batch]
        store_request(at(1000 + len(seen)))

    assert seen == stored


def test_rows_without_parents_are_shown_however_many_there_are() -> None:
    for number in range(60):
        store_step(None, at(number), name=f"lost step {number:02}")
        store_registration(None, moment=at(number), name=f"lost registration {number:02}")

    text = Report().text

    for number in range(60):
        assert text.count(f"lost step {number:02}") == 1
        assert text.count(f"lost registration {number:02}") == 1
    assert text.count("whose process left no record") == text.count("whose step left no record") == 1


def test_kinds_of_sign_in_events_beyond_what_the_summary_holds_are_counted_together() -> None:
    for number in range(40):
        store_login(at(number), status=f"Event {number:02}")

    report = Report()

    assert re.search(r"^others 25$", report.texts[1], re.MULTILINE)
    assert "Event 39" in report.text


def test_requests_of_a_day_share_a_chart_by_the_hour() -> None:
    for hour in range(20):
        store_request(at(hour * 3600))

    summary = Report().texts[1]

    assert "per hour" in summary
    assert "11-25" in summary


def test_a_process_names_its_whole_trace() -> None:
    store_process(trace_id="a1" * 16, duration_ms=None)

    assert f"trace {'a1' * 16}" in Report().text


def test_a_time_without_zone_is_utc() -> None:
    store_request(at(0), url="/inside/")

    text = Report(since=datetime(2026, 11, 24, 11, 59), until=datetime(2026, 11, 24, 12, 1)).text

    assert "/inside/" in text


def test_steps_of_a_process_are_shown_although_they_began_after_the_scope() -> None:
    process = store_process(at(0))
    store_registration(store_step(process, at(120), name="resumed later"), moment=at(121))

    assert "resumed later" in Report(until=at(60)).text


HOSTILE = '<img src="http://evil.example/x.png"/><b>bold</b> &amp; <script>alert(1)</script>'


def test_markup_in_a_row_is_shown_as_it_is_and_fetches_nothing() -> None:
    store_request(url=f"/{HOSTILE[:44]}", actor_name="<b>anna</b>", status_code=500, error_type=HOSTILE)
    step = store_step(store_process(name=HOSTILE, description=HOSTILE), name="<i>step</i>")
    store_registration(step, name="<a href='javascript:x'>y</a>")
    store_login(username="<b>bert</b>", reason=HOSTILE[:20])

    report = Report(generated_by="<b>me</b>", filters="<b>all</b>")

    for shown in (
        "<b>anna</b>",
        "<i>step</i>",
        "<b>me</b>",
        "<b>all</b>",
        "<a href='javascript:x'>y</a>",
        "<b>bert</b>",
    ):
        assert shown in report.text
    for page in report.reader.pages:
        for annotation in page.get("/Annots") or []:
            assert "/URI" not in str(annotation.get_object())


def test_a_trace_is_a_link_where_the_site_says_where_traces_are(settings: Any) -> None:
    settings.OTEL_AUDIT = {"DATABASE": "audit", "TRACE_URL": "https://jaeger.example/trace/{trace_id}?uiFind={span_id}"}
    for number, store in enumerate((store_request, store_login, store_process)):
        store(trace_id=f"{number}a" * 16, span_id="b2" * 8)

    annotations = [found.get_object() for page in Report().reader.pages for found in page.get("/Annots") or []]

    linked = {annotation["/A"]["/URI"] for annotation in annotations if "/URI" in str(annotation)}
    assert linked == {f"https://jaeger.example/trace/{f'{number}a' * 16}?uiFind={'b2' * 8}" for number in range(3)}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Łukasz Ελένη", "Łukasz Ελένη"),
        ("nul\x00esc\x1b[31m", "nul[U+0000]esc[U+001B][31m"),
        ("evil\u202etxt.exe", "evil[U+202E]txt.exe"),
        ("hidden\u200bspace", "hidden[U+200B]space"),
        ("private \ue000", "private [U+E000]"),
        ("old \U00013000", "old [U+13000]"),
    ],
)
def test_no_character_vanishes(name: str, shown: str) -> None:
    text = Report(generated_by=name).text

    assert shown in text.replace("\n", "")


def test_a_report_takes_the_same_number_of_queries_for_many_processes() -> None:
    def queries() -> int:
        with CaptureQueriesContext(connections["audit"]) as captured:
            Report()
        return len(captured)

    store_registration(store_step(store_process()))
    few = queries()
    for number in range(40):
        process = store_process(at(number + 1), request=store_request(at(number + 1)))
        store_registration(store_step(process))
        store_login(at(number + 1), request=process.request)

    many = queries()

    assert many <= few + 3
    assert many < 25


def test_a_clock_that_was_wrong_by_millennia_does_not_break_the_report() -> None:
    store_request(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    store_request(NOON)
    RequestAuditEvent.objects.create(datetime=datetime(9999, 12, 31, tzinfo=UTC), method="GET", url="/late/")

    assert "/late/" in Report().text


def test_requests_of_many_years_share_a_chart() -> None:
    for years in range(0, 60, 7):
        store_request(NOON - timedelta(days=365 * years))

    assert "per 3 640 days" in Report().texts[1].replace("\N{NO-BREAK SPACE}", " ")


def test_one_process_is_one_page_without_the_others() -> None:
    process, other = store_process(name="Create product"), store_process(name="Close the till")
    step = store_step(process, name="Validate", total_registrations=2)
    store_registration(step, name="code ok")
    store_step(other, name="Count the money")
    target = io.BytesIO()

    pages = write_process(target, process.pk, generated_by="auditor@example.com")

    (page,) = PdfReader(target, strict=True).pages
    text = page.extract_text()
    assert pages == 1
    for shown in ("Create product", "Validate", "code ok", "No registration", "Page 1"):
        assert shown in text
    assert "Close the till" not in text
    assert "Count the money" not in text


def test_a_process_that_left_no_row_is_said_to_have_none() -> None:
    target = io.BytesIO()

    assert write_process(target, None, generated_by="auditor@example.com") == 1
    assert "No processes in this scope" in PdfReader(target, strict=True).pages[0].extract_text()
