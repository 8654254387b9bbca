"""The captured text: put together by hand, yet the one that any canonical JSON encoder would write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode

from otel_audit.scope import Note
from otel_audit_exporters.envelope import Record, encode_event, encode_intent, encode_request, encode_span

ID = "01a20d9f-832f-783f-9b7c-aa7c7111c3ac"
NAME = 'a "name"\nof \\ three\x00 lines, Ärger, \ud800 and 🦊'
FACTS = {"url": NAME, "actor": ("7", NAME, "user"), "nothing": None, "ratio": 0.1, "list": [1, True]}


def request() -> Record:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("parent"):
        span = tracer.start_span(NAME, kind=SpanKind.SERVER)
    span.set_status(Status(StatusCode.ERROR))
    span.end()
    return encode_request(span, ID, FACTS, NAME)  # type: ignore[arg-type]  # the SDK's spans can be read


def step() -> Record:
    span = TracerProvider().get_tracer("test").start_span(NAME)
    for number in range(200):
        span.add_event(f"event {number}")
    span.end()
    note = Note("step", ID, request_id=None, process_id=ID, step_id=ID, order=1)
    (record,) = encode_span(span, note, NAME)  # type: ignore[arg-type]
    return record


def intent() -> Record:
    return encode_intent(ID, 1_764_000_000_000_000_001, FACTS, None, NAME)


def login() -> Record:
    context = SpanContext(trace_id=1 << 100, span_id=0xABC, is_remote=False)
    return encode_event("login", ID, {"request": ID, "process": None, "step": None}, FACTS, context, NAME)


@pytest.mark.parametrize("make", [request, step, intent, login])
def test_the_text_is_canonical_json_and_the_hash_is_its_own(make: Callable[[], Record]) -> None:
    record = make()

    read: dict[str, Any] = json.loads(record.core)

    assert record.core == json.dumps(read, sort_keys=True, separators=(",", ":")).encode("ascii")
    assert record.hash == hashlib.sha256(record.core).hexdigest()
    assert (read["v"], read["id"], record.id, read["service"]) == (1, ID, ID, NAME)
    assert read.keys() == {"v", "type", "kind", "id", "service", "ids", "span", "facts"}


def test_what_a_span_says_is_in_the_text() -> None:
    failed = json.loads(request().core)
    flooded = json.loads(step().core)

    assert failed["span"].keys() == {"name", "trace_id", "span_id", "parent_span_id", "start", "end", "status"}
    assert (failed["span"]["name"], failed["span"]["status"]) == (NAME, "ERROR")
    assert [len(failed["span"][key]) for key in ("trace_id", "span_id", "parent_span_id")] == [32, 16, 16]
    assert int(failed["span"]["end"]) >= int(failed["span"]["start"]) > 0
    assert flooded["span"]["dropped"] == 200 - 128
    assert flooded["ids"] == {"request": None, "process": ID, "step": ID}
    assert failed["facts"] == json.loads(json.dumps(FACTS))


@pytest.mark.parametrize(
    ("make", "context"),
    [(intent, {"trace_id": "", "span_id": ""}), (login, {"trace_id": f"{1 << 100:032x}", "span_id": f"{0xABC:016x}"})],
)
def test_an_event_says_to_which_span_it_belongs(make: Callable[[], Record], context: dict[str, str]) -> None:
    span = json.loads(make().core)["span"]

    assert {key: span[key] for key in context} == context
