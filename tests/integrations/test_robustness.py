"""What the hooks do where the site is switched off, half set up or broken."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rest_framework.test import APIClient

from otel_audit import edges
from otel_audit.integrations import attempts
from otel_audit.middleware import GUARD_PATH
from otel_audit.testing import AuditRecords

from .conftest import PASSWORD, told

pytestmark = [pytest.mark.urls("tests.integrations.urls"), pytest.mark.django_db]

GOOD = {"username": "ada", "password": PASSWORD}
BAD = {"username": "ada", "password": "guess"}


@pytest.fixture
def no_middleware(settings: Any) -> None:
    """A site without our entry in ``MIDDLEWARE``."""
    settings.MIDDLEWARE = [path for path in settings.MIDDLEWARE if "otel_audit" not in path]
    assert not any("otel_audit" in path for path in settings.MIDDLEWARE)


@pytest.mark.parametrize("path", ["/token/", "/token/with-session/", "/auth-token/", "/login/"])
def test_site_without_the_middleware_still_records_sign_ins(
    no_middleware: None, user: User, records: AuditRecords, path: str
) -> None:
    for body in (GOOD, BAD):
        Client().post(path, body)

    assert records.requests == []
    assert [(told(login), login.request_id) for login in records.logins] == [
        (("Sign in", "LOGIN", "success", str(user.pk), "ada"), None),
        (("Failed", "LOGIN", "failure", None, "ada"), None),
    ]


@override_settings(OTEL_AUDIT={"ENABLED": False})
@pytest.mark.parametrize("path", ["/token/", "/auth-token/", "/login/", "/jwt/", "/old/token/"])
def test_nothing_is_recorded_where_auditing_is_off(user: User, records: AuditRecords, path: str) -> None:
    responses = [Client().post(path, body) for body in (GOOD, BAD)]

    assert responses[0].status_code in (200, 204)
    assert len(records) == 0


@pytest.mark.parametrize("path", ["/token/", "/token/with-session/", "/auth-token/", "/login/", "/jwt/"])
@pytest.mark.parametrize("body", [GOOD, BAD])
def test_user_object_that_cannot_say_who_it_is_costs_neither_response_nor_event(
    user: User, records: AuditRecords, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, str]
) -> None:
    def broken(self: User) -> str:
        raise RuntimeError("no name today")

    expected = Client().post(path, body).status_code
    records.clear()
    monkeypatch.setattr(User, "get_username", broken)

    response = Client().post(path, body)

    assert response.status_code == expected
    assert len(records.logins) == 1


@pytest.mark.parametrize("body", [GOOD, BAD])
def test_error_of_ours_costs_no_response(
    user: User, records: AuditRecords, monkeypatch: pytest.MonkeyPatch, body: dict[str, str]
) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("a mistake of ours")

    expected = Client().post("/token/", body).status_code
    monkeypatch.setattr(edges, "reraise", False)
    monkeypatch.setattr(attempts, "metadata_only", broken)
    monkeypatch.setattr(attempts.Attempt, "found_user", broken)
    monkeypatch.setattr(attempts.Attempt, "has", broken)

    assert Client().post("/token/", body).status_code == expected
    assert edges.errors["integrations.conclude"] > 0


@pytest.mark.parametrize("status", [200, 401])
def test_nothing_is_noted_on_a_view_for_the_next_one(user: User, records: AuditRecords, status: int) -> None:
    Client().post("/token/", GOOD if status == 200 else BAD)

    assert attempts.current_attempt.get() is None


# ── the trace ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def spans(fresh_provider: None) -> InMemorySpanExporter:
    """What the site's own exporter gets."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.mark.parametrize(
    ("path", "body", "action", "outcome", "method"),
    [
        ("/token/", GOOD, "LOGIN", "success", "simplejwt"),
        ("/token/", BAD, "LOGIN", "failure", "simplejwt"),
        ("/auth-token/", GOOD, "LOGIN", "success", "drf-token"),
        ("/login/", GOOD, "LOGIN", "success", "session"),
        ("/login/", BAD, "LOGIN", "failure", "session"),
        ("/jwt/", GOOD, "LOGIN", "success", "simplejwt"),
        ("/meta/", {"status": "Sign out"}, "LOGOUT", "success", "view"),
    ],
)
def test_event_is_on_the_requests_span_without_names(
    spans: InMemorySpanExporter,
    user: User,
    records: AuditRecords,
    path: str,
    body: Any,
    action: str,
    outcome: str,
    method: str,
) -> None:
    Client().post(path, body)

    (span,) = (span for span in spans.get_finished_spans() if span.kind is trace.SpanKind.SERVER)
    (event,) = span.events
    (login,) = records.logins
    assert event.name == "audit.login"
    assert dict(event.attributes or {}) == {
        "audit.action": action,
        "audit.outcome": outcome,
        "audit.login.method": method,
        "audit.record.id": str(login.pk),
    }
    assert login.span_id == f"{span.context.span_id:016x}"


@pytest.mark.parametrize(("path", "body"), [("/token/", GOOD), ("/jwt/", GOOD), ("/meta/", {"status": "Sign in"})])
def test_instrumented_site_is_recorded_without_a_warning(
    spans: InMemorySpanExporter,
    settings: Any,
    user: User,
    records: AuditRecords,
    caplog: pytest.LogCaptureFixture,
    path: str,
    body: Any,
) -> None:
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    settings.MIDDLEWARE = list(settings.MIDDLEWARE)  # it inserts in place
    DjangoInstrumentor().instrument()
    settings.MIDDLEWARE = [entry for entry in settings.MIDDLEWARE if entry != GUARD_PATH]
    try:
        with caplog.at_level(logging.WARNING):
            Client().post(path, body)
    finally:
        DjangoInstrumentor().uninstrument()

    (login,) = records.logins
    assert (login.status, caplog.messages) == ("Sign in", [])
    assert login.span_id == records.requests[0].span_id


def test_api_client_that_forces_its_user_signs_nobody_in(user: User, records: AuditRecords) -> None:
    api = APIClient()
    api.force_authenticate(user)

    api.get("/who/")

    assert records.logins == []
