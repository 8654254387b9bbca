"""What is recorded here, forwarded and received again makes rows equal to those that were written directly."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_audit.models import AuditEvent
from otel_audit.testing import capture
from otel_audit_exporters import mapper
from otel_audit_exporters.otlp_spans import FULL, as_request, as_span
from otel_audit_exporters.pipeline import pipeline
from tests.processes.ways import ShopError, plain

from .sending import rows_of

pytestmark = [pytest.mark.urls("tests.processes.urls"), pytest.mark.usefixtures("fresh_provider")]

#: Of the way that a record took, not of what it says; the hash is over what was captured.
PROVENANCE = {"observed_at", "stored_at", "stream_id", "stream_seq", "record_hash"}


def contents(rows: list[AuditEvent], *but: str) -> list[dict[str, Any]]:
    """Return what rows say, in the order of their ids; times are equal to the microsecond."""
    return [
        {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields if field.name not in but}
        for row in sorted(rows, key=lambda row: row.pk)
    ]


def record(way: str) -> list[dict[str, Any]]:
    """Serve a request; return the envelopes of its records."""
    with pipeline.capture() as envelopes:
        Client(raise_request_exception=False).post(
            f"/run/{way}/2/1/?page=2", {"name": "tea"}, headers={"user-agent": "x"}
        )
    return envelopes


@pytest.mark.parametrize("way", ["plain", "helpers", "classes"])
def test_a_request_that_is_forwarded_in_full_becomes_the_same_rows(way: str) -> None:
    envelopes = record(way)
    direct: dict[str, list[AuditEvent]] = {}
    for envelope in envelopes:
        for row in mapper.rows(envelope):
            direct.setdefault(type(row).__name__.removesuffix("AuditEvent").lower(), []).append(row)
    spans = [(envelope["service"], as_span(envelope, FULL)) for envelope in envelopes]

    received = rows_of(as_request([(service, span) for service, span in spans if span is not None]), spans[0][0])

    # Durations are by the monotonic clock where the record was made, by the span's times where it is received.
    but = {*PROVENANCE, "response_time", "duration_ms"}
    assert set(direct) == {"request", "process", "step", "registration"}
    for kind, rows in direct.items():
        assert contents(received[kind], *but) == contents(rows, *but)


@pytest.mark.parametrize("fails", [False, True])
def test_plain_spans_that_are_received_become_the_same_rows_as_those_that_are_recorded(fails: bool) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    with capture() as direct:
        from otel_audit.provider import site_tracer

        site_tracer()  # our processor is the first: the spans have their record's id when they are exported
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        try:
            plain(None, 2, fails)
        except ShopError:
            assert fails

    received = rows_of(encode_spans(exporter.get_finished_spans()), direct.processes[0].service_name)

    but = {*PROVENANCE, "duration_ms"}
    for kind, rows in (("process", direct.processes), ("step", direct.steps)):
        assert contents(received[kind], *but) == contents(list(rows), *but)
    # An event has no id of its own here: each side makes one.
    registered = contents(list(direct.registrations), *but, "id")
    assert contents(received["registration"], *but, "id") == registered
    assert len(registered) == 3 - fails


def test_what_stands_beside_a_record_goes_there_and_back() -> None:
    own = {"audit.untrusted.x-forwarded-for": "203.0.113.7", "audit.impersonator.id": "1"}
    extra = {**own, "basket": {"kettle": 1, "lines": [{"a": None}]}}
    with pipeline.capture() as envelopes:
        Client().post("/run/plain/1/0/", {"name": "tea"})
    (envelope,) = (each for each in envelopes if each["kind"] == "request")
    envelope["facts"] |= {"extra": extra, "session_id": "0a" * 16}
    (direct,) = mapper.rows(envelope)

    span = as_span(envelope, FULL)
    assert span is not None
    (received,) = rows_of(as_request([(envelope["service"], span)]), envelope["service"])["request"]

    assert received.extra_informations == direct.extra_informations == extra
    assert received.session_id == direct.session_id == "0a" * 16  # type: ignore[attr-defined]


@pytest.mark.django_db
def test_who_failed_to_sign_in_stays_nobody_and_the_attempted_name_is_kept() -> None:
    with pipeline.capture() as envelopes:
        authenticate(HttpRequest(), username="mallory", password="wrong")
    (envelope,) = envelopes
    (direct,) = mapper.rows(envelope)

    span = as_span(envelope, FULL)
    assert span is not None
    (received,) = rows_of(as_request([(envelope["service"], span)]), envelope["service"])["login"]

    # A record without a trace gets one on the way, as a span has to have one.
    but = {*PROVENANCE, "trace_id", "span_id"}
    assert contents([received], *but) == contents([direct], *but)
    assert received.username == "mallory"  # type: ignore[attr-defined]


@pytest.mark.urls("tests.integrations.urls")
@pytest.mark.django_db
def test_sign_ins_and_what_follows_keep_what_ties_them() -> None:
    User.objects.create_user("ada", "ada@example.com", "correct horse")
    client = Client(headers={"X-Forwarded-For": "203.0.113.9"})
    with pipeline.capture() as envelopes:
        tokens = client.post("/token/", {"username": "ada", "password": "correct horse"}).json()
        client.get("/who/", headers={"Authorization": f"Bearer {tokens['access']}"})
        client.post("/token/refresh/", {"refresh": tokens["refresh"]})
    direct = [row for envelope in envelopes for row in mapper.rows(envelope)]
    spans = [(envelope["service"], as_span(envelope, FULL)) for envelope in envelopes]

    received = rows_of(as_request([(service, span) for service, span in spans if span is not None]), spans[0][0])

    for kind, count in (("request", 3), ("login", 2)):
        rows = [row for row in direct if type(row).__name__.lower().startswith(kind)]
        told = [[(row.session_id, row.extra_informations) for row in found] for found in (received[kind], rows)]
        assert sorted(told[0], key=repr) == sorted(told[1], key=repr)
        assert (len(rows), "" in {row.session_id for row in rows}) == (count, False)
