"""The admin's pages: read by those who may, changed by nobody, cheap, and never broken by what a row says or lacks."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connections
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from otel_audit.ids import record_id
from otel_audit.models import (
    AuditEvent,
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from tests.admin.conftest import VIEWS, SignIn
from tests.reports.rows import (
    at,
    store_login,
    store_process,
    store_registration,
    store_request,
    store_step,
)

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

STORE: dict[type[AuditEvent], Callable[..., Any]] = {
    RequestAuditEvent: store_request,
    LoginAuditEvent: store_login,
    ProcessAuditEvent: store_process,
    StepAuditEvent: lambda **columns: store_step(None, **columns),
    RegistrationAuditEvent: lambda **columns: store_registration(None, **columns),
}
each_model = pytest.mark.parametrize("model", STORE)


def url(model: type[AuditEvent], page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:otel_audit_{model._meta.model_name}_{page}", args=args)


def store_family(seconds: float = 0) -> tuple[Any, ...]:
    """Store one row of each model, related to each other."""
    request = store_request(at(seconds), actor_name="anna", url="/api/products/7/", trace_id="a1" * 16)
    login = store_login(at(seconds), request=request, username="anna")
    process = store_process(at(seconds), request=request)
    step = store_step(process, at(seconds), order=1, total_registrations=2)
    registration = store_registration(step, moment=at(seconds))
    return request, login, process, step, registration


def text_of(response: Any) -> str:
    """Return the words of a page, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.content.decode()))


@each_model
@pytest.mark.parametrize("superuser", [True, False])
def test_a_list_of_a_hundred_rows_takes_at_most_six_queries(
    sign_in: SignIn, model: type[AuditEvent], superuser: bool
) -> None:
    client = sign_in(superuser=superuser, permissions=() if superuser else VIEWS)
    for number in range(105):
        store_family(number)

    with (
        CaptureQueriesContext(connections["default"]) as default,
        CaptureQueriesContext(connections["audit"]) as audit,
    ):
        response = client.get(url(model))

    assert (
        response.content.decode().count('class="field-began')
        + response.content.decode().count('<th class="field-began')
        >= 100
    )
    assert len(default) + len(audit) <= 6, [query["sql"] for query in (*default, *audit)]


@each_model
def test_a_detail_page_takes_few_queries_for_many_related_rows(superuser: Client, model: type[AuditEvent]) -> None:
    request, login, process, step, registration = store_family()
    for number in range(30):
        store_registration(store_step(process, at(number)), moment=at(number))
        store_registration(step, moment=at(number))
        store_login(at(number), request=request)
        store_process(at(number), request=request)
    row = next(row for row in (request, login, process, step, registration) if isinstance(row, model))

    with CaptureQueriesContext(connections["audit"]) as queries:
        response = superuser.get(url(model, "change", row.pk))

    assert response.status_code == 200
    assert len([query for query in queries if query["sql"].startswith("SELECT")]) <= 5


@each_model
def test_every_field_can_be_read(superuser: Client, model: type[AuditEvent]) -> None:
    page = admin.site._registry[model]
    shown = {name.removesuffix("_shown") for _heading, names in page.sections for name in names}  # type: ignore[attr-defined]
    shown_otherwise = {
        RequestAuditEvent: {"status_code", "response_time"},
        LoginAuditEvent: {"status"},
        ProcessAuditEvent: {"duration_ms"},
        StepAuditEvent: {"duration_ms"},
    }.get(model, set())

    fields = {field.name for field in model._meta.concrete_fields}

    assert fields - shown - shown_otherwise == set()


@each_model
def test_nobody_adds_changes_or_deletes(superuser: Client, model: type[AuditEvent]) -> None:
    row = STORE[model](actor_name="anna")

    assert superuser.get(url(model, "add")).status_code == 403
    assert superuser.post(url(model, "add"), {"actor_name": "x"}).status_code == 403
    assert superuser.post(url(model, "change", row.pk), {"actor_name": "x"}).status_code == 403
    assert superuser.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert superuser.post(url(model), {"action": "delete_selected", "_selected_action": [row.pk]}).status_code in (
        200,
        302,
    )
    assert model._default_manager.get().actor_name == "anna"


@each_model
def test_a_page_offers_nothing_that_changes_a_row(auditor: Client, model: type[AuditEvent]) -> None:
    row = STORE[model]()

    pages = auditor.get(url(model)).content.decode() + auditor.get(url(model, "change", row.pk)).content.decode()

    for offered in ("deletelink", "addlink", 'name="_save"', "/delete/", "/add/", "delete_selected"):
        assert offered not in pages


@each_model
@pytest.mark.parametrize(
    ("person", "status"),
    [
        ({"staff": False}, 302),
        ({"staff": False, "permissions": VIEWS}, 302),
        ({}, 403),
        ({"permissions": ["view_user"]}, 403),
        ({"permissions": VIEWS}, 200),
        ({"superuser": True}, 200),
    ],
)
def test_pages_are_for_those_who_may_view(
    sign_in: SignIn, model: type[AuditEvent], person: dict[str, Any], status: int
) -> None:
    row = STORE[model]()
    client = sign_in(**person)

    assert client.get(url(model)).status_code == status
    assert client.get(url(model, "change", row.pk)).status_code == status


@each_model
def test_somebody_who_is_not_signed_in_is_sent_to_the_sign_in_page(client: Client, model: type[AuditEvent]) -> None:
    response = client.get(url(model))

    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")


def test_related_rows_are_shown_to_those_who_may_view_them_alone(sign_in: SignIn) -> None:
    request, login, process, step, _registration = store_family()
    client = sign_in(permissions=["view_loginauditevent", "view_processauditevent", "view_registrationauditevent"])

    process_pages = text_of(client.get(url(ProcessAuditEvent, "change", process.pk)))
    process_list = text_of(client.get(url(ProcessAuditEvent)))
    login_list = text_of(client.get(url(LoginAuditEvent)))
    registration_list = text_of(client.get(url(RegistrationAuditEvent)))

    assert request.url not in process_pages + process_list + login_list
    assert step.name not in process_pages + registration_list
    assert str(login.username) in login_list


SEARCHES = ["anna", "", "  ", "%", "'; DROP TABLE", "\u0661", "x" * 300, "a1" * 16, "b2" * 8, str(UUID(int=7)), "\x00"]


@each_model
@pytest.mark.parametrize("term", SEARCHES)
def test_any_search_works_on_every_model(auditor: Client, model: type[AuditEvent], term: str) -> None:
    STORE[model](actor_name="anna")

    assert auditor.get(url(model), {"q": term}).status_code == 200


@each_model
@pytest.mark.parametrize(
    "query",
    [
        {"outcome__exact": "\x00"},
        {"trace_id": "\x00"},
        {"id__exact": "no uuid"},
        {"datetime__gte": "no time"},
        {"datetime__gte": "2026-02-30T10:00"},
        {"datetime__gte": "0001-01-01T00:00+14:00", "datetime__lt": "9999-12-31T23:59-14:00"},
        {"nonsense": "1"},
        {"o": "99.x"},
        {"p": "-5"},
        {"p": "999999999999"},
        {"derived": "\x00", "status_class": "\x00"},
        {"all": ""},
    ],
)
def test_no_address_of_a_list_breaks_it(auditor: Client, model: type[AuditEvent], query: dict[str, str]) -> None:
    STORE[model]()

    assert auditor.get(url(model), query).status_code in (200, 302, 400)


@each_model
@pytest.mark.parametrize("key", ["no uuid", "%00", "1", "../../x"])
def test_no_address_of_a_detail_page_breaks_it(auditor: Client, model: type[AuditEvent], key: str) -> None:
    assert auditor.get(f"{url(model)}{key}/change/").status_code in (302, 404)


@each_model
def test_search_finds_the_actor_the_record_the_trace_and_the_span(auditor: Client, model: type[AuditEvent]) -> None:
    wanted = STORE[model](actor_name="anna", trace_id="a1" * 16, span_id="b2" * 8, moment=at(1))
    STORE[model](actor_name="bert", moment=at(2))

    for term in ("anna", str(wanted.pk), wanted.pk.hex.upper(), "A1" * 16, "b2" * 8):
        response = auditor.get(url(model), {"q": term})

        assert [row.pk for row in response.context["cl"].result_list] == [wanted.pk], term


@each_model
@pytest.mark.parametrize("length", [8, 16, 31])
def test_search_finds_a_trace_by_what_a_list_or_the_report_shows_of_its_id(
    auditor: Client, model: type[AuditEvent], length: int
) -> None:
    trace_id = "0123456789abcdef" * 2
    wanted = STORE[model](trace_id=trace_id, moment=at(1))
    STORE[model](trace_id="0123456" + "f" * 25, moment=at(2))

    for term in (trace_id[:length], f" {trace_id[:length].upper()}… "):
        response = auditor.get(url(model), {"q": term})

        assert [row.pk for row in response.context["cl"].result_list] == [wanted.pk], term


def test_search_for_a_word_that_could_be_the_beginning_of_an_id_finds_names_too(auditor: Client) -> None:
    named = store_process(name="Facade01 painted", moment=at(1))
    traced = store_process(trace_id="facade01" + "0" * 24, moment=at(2))

    response = auditor.get(url(ProcessAuditEvent), {"q": "facade01"})

    assert [row.pk for row in response.context["cl"].result_list] == [traced.pk, named.pk]


def test_search_finds_an_actor_whose_key_could_be_the_beginning_of_an_id(auditor: Client) -> None:
    wanted = store_request(user="ABCDEF12")

    response = auditor.get(url(RequestAuditEvent), {"q": "ABCDEF12"})

    assert [row.pk for row in response.context["cl"].result_list] == [wanted.pk]


def test_search_by_the_id_of_a_process_finds_its_steps(auditor: Client) -> None:
    _request, _login, process, step, _registration = store_family()
    store_family(1)

    response = auditor.get(url(StepAuditEvent), {"q": str(process.pk)})

    assert [row.pk for row in response.context["cl"].result_list] == [step.pk]


@pytest.mark.parametrize(
    ("model", "query", "expected"),
    [
        (RequestAuditEvent, {"status_class": "2"}, ["/ok/"]),
        (RequestAuditEvent, {"status_class": "5"}, ["/broken/"]),
        (RequestAuditEvent, {"status_class": "none"}, ["/gone/"]),
        (RequestAuditEvent, {"status_class": "nonsense"}, ["/gone/", "/broken/", "/ok/"]),
        (RequestAuditEvent, {"outcome__exact": "failure"}, ["/broken/"]),
        (RequestAuditEvent, {"datetime__gte": "2026-11-24 12:00:01+00:00"}, ["/gone/", "/broken/"]),
        (RequestAuditEvent, {"datetime__gte": "2026-11-24T12:00:01", "datetime__lt": ""}, ["/gone/", "/broken/"]),
        (RequestAuditEvent, {"datetime__gte": "", "datetime__lt": "2026-11-24T12:00:01"}, ["/ok/"]),
        (RequestAuditEvent, {"datetime__gte": "2026-11-24", "datetime__lt": "2026-11-24T13:00+01:00"}, []),
    ],
)
def test_requests_can_be_filtered(
    auditor: Client, model: type[AuditEvent], query: dict[str, str], expected: list[str]
) -> None:
    store_request(at(0), url="/ok/")
    store_request(at(1), url="/broken/", status_code=500)
    store_request(at(2), url="/gone/", status_code=None)

    response = auditor.get(url(model), query)

    assert [row.url for row in response.context["cl"].result_list] == expected


@override_settings(TIME_ZONE="America/Sao_Paulo")
def test_the_form_of_the_period_is_in_utc_and_keeps_what_else_narrows_the_list(auditor: Client) -> None:
    query = {"datetime__gte": "2026-11-24T09:00:01-03:00", "status_class": "5", "q": "a&b", "p": "1"}

    content = auditor.get(url(RequestAuditEvent), query).content.decode()

    form = re.search(r'<form class="oa-period".*?</form>', content, re.DOTALL)
    assert form is not None
    inputs = dict(re.findall(r'<input [^>]*name="([^"]*)" value="([^"]*)"', form[0]))
    assert inputs == {
        "datetime__gte": "2026-11-24T12:00:01",
        "datetime__lt": "",
        "status_class": "5",
        "q": "a&amp;b",
    }
    for name in re.findall(r'<label for="([^"]*)"', form[0]):
        assert f'id="{name}"' in form[0]


def test_the_link_of_the_period_that_is_shown_is_marked(auditor: Client) -> None:
    store_request()
    listed = auditor.get(url(RequestAuditEvent)).content.decode()
    (link,) = re.findall(r'<a href="([^"]*)"[^>]*>\s*This year', listed)

    narrowed = auditor.get(url(RequestAuditEvent) + html.unescape(link)).content.decode()

    assert re.search(r'<li\s+class="selected">\s*<a[^>]*>\s*This year', narrowed)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("succeeded", ["good"]), ("failed", ["bad"]), ("incomplete", ["none"]), ("x", ["none", "bad", "good"])],
)
def test_processes_and_steps_can_be_filtered_by_how_they_ended(
    auditor: Client, outcome: str, expected: list[str]
) -> None:
    store_registration(store_step(store_process(at(0), name="good"), at(0), name="good"))
    store_registration(store_step(store_process(at(1), name="bad"), at(1), name="bad"), success=False)
    store_step(store_process(at(2), name="none"), at(2), name="none")

    for model in (ProcessAuditEvent, StepAuditEvent):
        response = auditor.get(url(model), {"derived": outcome})

        assert [row.name for row in response.context["cl"].result_list] == expected


def test_a_list_shows_the_newest_first_and_can_be_turned_round(auditor: Client) -> None:
    for number in range(3):
        store_request(at(number), url=f"/{number}/")

    newest = auditor.get(url(RequestAuditEvent)).context["cl"].result_list
    oldest = auditor.get(url(RequestAuditEvent), {"o": "0"}).context["cl"].result_list

    assert [row.url for row in newest] == ["/2/", "/1/", "/0/"]
    assert [row.url for row in oldest] == ["/0/", "/1/", "/2/"]


def test_the_process_list_shows_no_success_without_a_registration(auditor: Client) -> None:
    store_process(name="nothing was done")

    page = text_of(auditor.get(url(ProcessAuditEvent)))

    assert "◐ incomplete" in page
    assert "✓ succeeded" not in page


def test_a_process_page_shows_steps_registrations_missing_and_extra_ones(auditor: Client) -> None:
    process = store_process()
    short = store_step(process, order=1, name="Validate", total_registrations=2)
    store_registration(short, name="code ok")
    long = store_step(process, at(1), order=2, name="Publish", total_registrations=1)
    store_registration(long, name="first", moment=at(1))
    store_registration(long, name="second", moment=at(2), success=False)

    page = text_of(auditor.get(url(ProcessAuditEvent, "change", process.pk)))

    assert page.index("1. Validate") < page.index("code ok") < page.index("No registration") < page.index("2. Publish")
    assert page.count("No registration") == 1
    assert "2 of 1" in page
    assert "beyond the 1 expected" in page
    assert "✗ failed" in page


@pytest.mark.parametrize("model", [ProcessAuditEvent, StepAuditEvent])
def test_what_a_process_or_step_raised_is_shown_line_by_line_beside_the_other_data(
    auditor: Client, model: type[AuditEvent]
) -> None:
    error = {"type": "ValueError", "message": "no price", "stacktrace": "Traceback:\n  line 1\nValueError: no price"}
    row = STORE[model](extra_informations={"exception": error, "sku": "tea"})

    content = auditor.get(url(model, "change", row.pk)).content.decode()

    assert "Traceback:\n  line 1\nValueError: no price</pre>" in content
    assert "{\n  &quot;sku&quot;: &quot;tea&quot;\n}</pre>" in content
    assert content.count("no price") == 2


def test_data_of_a_site_that_is_called_exception_stays_with_the_other_data(auditor: Client) -> None:
    process = store_process(extra_informations={"exception": {"type": "holiday", "country": "BR"}})

    page = text_of(auditor.get(url(ProcessAuditEvent, "change", process.pk)))

    assert "&quot;country&quot;: &quot;BR&quot;" in page
    assert "Error type" not in page


def test_a_page_has_a_section_for_the_error_where_there_was_one(auditor: Client) -> None:
    failed = store_request(error_type="ValueError", status_code=500)
    fine = store_request(at(1))

    assert "Error type: ValueError" in text_of(auditor.get(url(RequestAuditEvent, "change", failed.pk)))
    assert "Error type" not in text_of(auditor.get(url(RequestAuditEvent, "change", fine.pk)))


def test_registrations_of_a_step_have_no_column_for_a_duration(auditor: Client) -> None:
    step = store_step(store_process(), total_registrations=2, duration_ms=30.0)
    store_registration(step, name="code ok")

    step_page = text_of(auditor.get(url(StepAuditEvent, "change", step.pk)))
    process_page = auditor.get(url(ProcessAuditEvent, "change", step.process_id)).content.decode()

    assert step_page.count("Duration (ms)") == 1  # the step's own
    table = process_page[process_page.index("Step or registration") :].partition("</table>")[0]
    assert {row.count("<td") for row in table.split("<tr")[1:]} == {5}


def test_more_related_rows_than_a_page_holds_are_linked(auditor: Client) -> None:
    step = store_step(store_process(), total_registrations=2_000)
    RegistrationAuditEvent.objects.bulk_create(
        RegistrationAuditEvent(step=step, success=True, name=f"r{number}") for number in range(510)
    )

    step_page = auditor.get(url(StepAuditEvent, "change", step.pk)).content.decode()
    process_page = text_of(auditor.get(url(ProcessAuditEvent, "change", step.process_id)))
    listed = auditor.get(url(RegistrationAuditEvent), {"step__id__exact": str(step.pk)})

    assert f"{url(RegistrationAuditEvent)}?step__id__exact={step.pk}" in step_page
    assert "No registration, 1470 more" in text_of(auditor.get(url(StepAuditEvent, "change", step.pk)))
    assert "Not all registrations are shown" in process_page
    assert listed.context["cl"].result_count == 510


@pytest.mark.parametrize(
    ("model", "relation"),
    [
        (LoginAuditEvent, "request"),
        (ProcessAuditEvent, "request"),
        (StepAuditEvent, "process"),
        (RegistrationAuditEvent, "step"),
    ],
)
@pytest.mark.parametrize("permissions", [VIEWS, "own"])
def test_a_related_row_that_is_absent_breaks_no_page(
    sign_in: SignIn, model: type[AuditEvent], relation: str, permissions: Any
) -> None:
    client = sign_in(permissions=[f"view_{model._meta.model_name}"] if permissions == "own" else permissions)
    absent = UUID(record_id())
    required = {"success": True} if model is RegistrationAuditEvent else {}
    row = model._default_manager.create(**{f"{relation}_id": absent}, **required)

    assert str(absent)[-12:] in text_of(client.get(url(model)))
    assert str(absent) in text_of(client.get(url(model, "change", row.pk)))


@each_model
def test_the_page_of_a_row_that_is_absent_leads_back(auditor: Client, model: type[AuditEvent]) -> None:
    assert auditor.get(url(model, "change", UUID(record_id()))).status_code == 302


HOSTILE = "<script>alert(1)</script>\"'<img src=x onerror=alert(2)>"


def test_no_value_of_a_row_becomes_markup(auditor: Client) -> None:
    text = dict.fromkeys(("actor_name", "service_name"), HOSTILE) | {"extra_informations": {HOSTILE: [HOSTILE]}}
    request = store_request(
        **text, url=HOSTILE, method=HOSTILE[:32], query_params=HOSTILE, user_agent=HOSTILE, route=HOSTILE,
        ip_addresses=HOSTILE, request_body=HOSTILE, response_body=HOSTILE, error_type=HOSTILE,
        error_message=HOSTILE, error_stacktrace=HOSTILE, user=HOSTILE, changed_fields=[HOSTILE], trace_id="<b>",
    )  # fmt: skip
    login = store_login(**text, request=request, username=HOSTILE, reason=HOSTILE, method=HOSTILE, status=HOSTILE[:32])
    process = store_process(**text, request=request, name=HOSTILE, description=HOSTILE, created_by=HOSTILE)
    step = store_step(process, **text, name=HOSTILE, description=HOSTILE, created_by=HOSTILE)
    registration = store_registration(step, **text, name=HOSTILE, description=HOSTILE, created_by=HOSTILE)

    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "TRACE_URL": "https://jaeger.example/trace/{trace_id}"}):
        for row in (request, login, process, step, registration):
            for page in (url(type(row)), url(type(row), "change", row.pk)):
                content = auditor.get(page).content.decode()

                assert "&lt;script&gt;alert(1)" in content
                assert "<script>alert" not in content
                assert "<img src=x" not in content


@each_model
def test_no_name_turns_round_what_stands_beside_it(auditor: Client, model: type[AuditEvent]) -> None:
    evil = "\u202eevil\u2066"
    names = {field.name for field in model._meta.concrete_fields} & {"name", "url", "username", "reason", "description"}
    row = STORE[model](actor_name=evil, extra_informations={"x": evil}, **dict.fromkeys(names, evil))

    for page in (auditor.get(url(model)), auditor.get(url(model, "change", row.pk))):
        content = page.content.decode()

        assert "[U+202E]evil[U+2066]" in content
        assert not re.search("[\u202e\u2066]", content)


def test_json_is_indented_other_bodies_stand_as_they_are_and_times_are_utc_with_microseconds(auditor: Client) -> None:
    request = store_request(
        at(0.123456),
        extra_informations={"order": {"id": 17}},
        request_body='{"a": 1}\n  <b>',
        response_body='{"id":7,"price":1.10}',
    )

    with override_settings(TIME_ZONE="America/Sao_Paulo"):
        content = auditor.get(url(RequestAuditEvent, "change", request.pk)).content.decode()

    assert "{\n  &quot;order&quot;: {\n    &quot;id&quot;: 17\n  }\n}" in content
    assert '<pre class="oa-block" tabindex="0">{&quot;a&quot;: 1}\n  &lt;b&gt;</pre>' in content
    assert '<pre class="oa-block" tabindex="0">{\n  &quot;id&quot;: 7,\n  &quot;price&quot;: 1.10\n}</pre>' in content
    assert "2026-11-24 12:00:00.123456 UTC" in content


@pytest.mark.parametrize(
    ("template", "link"),
    [
        (None, None),
        (
            "https://jaeger.example/trace/{trace_id}?uiFind={span_id}",
            f"https://jaeger.example/trace/{'a1' * 16}?uiFind={'b2' * 8}",
        ),
    ],
)
def test_a_trace_is_a_link_where_the_site_says_where_traces_are(
    auditor: Client, template: str | None, link: str | None
) -> None:
    request = store_request(trace_id="a1" * 16, span_id="b2" * 8)

    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "TRACE_URL": template}):
        pages = [
            auditor.get(page).content.decode()
            for page in (url(RequestAuditEvent), url(RequestAuditEvent, "change", request.pk))
        ]

    for content in pages:
        assert "a1a1a1a1" in content
        assert ("jaeger.example" in content) is (link is not None)
        assert link is None or f'href="{link}"' in content


def test_the_front_page_of_the_admin_lists_the_five_models(auditor: Client) -> None:
    page = auditor.get(reverse("admin:index")).content.decode()

    for model in apps.get_app_config("otel_audit").get_models():
        assert url(model) in page  # type: ignore[arg-type]
