"""The page of semantic conventions names every attribute that the code knows, and says where it really goes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_audit import attributes, models, process
from otel_audit.testing import AuditRecords, capture

PAGE = (Path(__file__).parent.parent / "docs" / "semantic-conventions.md").read_text(encoding="utf-8")
CONSTANTS = {name: value for name, value in vars(attributes).items() if name.isupper()}
VALUES = ("KIND_", "OUTCOME_", "ACTOR_", "SERVICE_UNKNOWN")
KEYS = {value for name, value in CONSTANTS.items() if not name.startswith((*VALUES, "EVENT_"))}
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| `") and line.count(" | ") == 4
]
PASSWORD = "correct horse"


def forwarded() -> set[str]:
    """Return the attributes that the page calls forwarded."""
    return {row[0].strip("`") for row in ROWS if row[3].startswith("yes")}


def test_every_attribute_is_listed_once() -> None:
    listed = [row[0].strip("`") for row in ROWS]

    assert sorted(listed) == sorted(KEYS)


def test_every_span_event_and_every_value_is_named() -> None:
    named = set(re.findall(r"`([^`\n]+)`", PAGE))

    assert {value for name, value in CONSTANTS.items() if name.startswith((*VALUES, "EVENT_"))} <= named


def test_every_attribute_is_used_by_the_code() -> None:
    root = Path(attributes.__file__).parent
    files = [
        *root.rglob("*.py"),
        *(root.parent / "exporters").rglob("*.py"),
        *root.parent.glob("otel_audit_exporters/*.py"),
    ]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files if path != Path(attributes.__file__))

    unused = [name for name, value in CONSTANTS.items() if value in KEYS and not re.search(rf"\b{name}\b", code)]

    assert unused == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_type_and_forwarding_are_said_and_the_field_exists(row: list[str]) -> None:
    _, kind, origin, is_forwarded, field = row

    assert kind in ("string", "int", "bool", "list")
    assert origin
    assert re.match(r"(yes|no)\b", is_forwarded)
    fields = re.findall(r"`(\w+)(?:\.(\w+))?`", field)
    assert fields != []
    for model, name in fields:
        found: Any = getattr(models, model)
        if name:
            found._meta.get_field(name)


@pytest.fixture
def exported(fresh_provider: None) -> InMemorySpanExporter:
    """What goes to the collectors of a site."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def records(exported: InMemorySpanExporter) -> Iterator[AuditRecords]:
    """What is recorded."""
    with capture() as found:
        yield found


def names(exported: InMemorySpanExporter) -> set[str]:
    """Return the names of all attributes of the exported spans and their events."""
    spans = exported.get_finished_spans()
    return {
        name
        for span in spans
        for attributes_ in (span.attributes, *(event.attributes for event in span.events))
        for name in attributes_ or {}
    }


@pytest.mark.urls("tests.integrations.urls")
@pytest.mark.django_db
def test_what_is_called_forwarded_is_what_our_spans_carry(
    exported: InMemorySpanExporter, records: AuditRecords
) -> None:
    User.objects.create_user("ada", "ada@example.com", PASSWORD)
    client = Client(raise_request_exception=False, headers={"X-Forwarded-For": "203.0.113.9", "User-Agent": "kettle"})

    client.post("/login/", {"username": "ada", "password": "guess"})
    client.post("/login/?next=/", {"username": "ada", "password": PASSWORD})
    client.get("/refused/")
    with process("Order", "a cup", sku="A-1") as p, p.step("Pour", 1, 1, "hot") as s:
        s.register(True, "poured", "to the brim")

    assert names(exported) == forwarded() - {"service.name"}
    assert all("service.name" in span.resource.attributes for span in exported.get_finished_spans())
