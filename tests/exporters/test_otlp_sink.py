"""Sending to a collector: what confirms, what waits, and what a collector will never take."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from otel_audit_exporters.otlp_sink import MAX_WAIT_S, REFUSED, CollectorAwayError, CollectorSink
from otel_audit_exporters.writer import POISON
from tests.e2e.otlp_server import TAKEN, Answer, Collector, grpc_collector, http_collector
from tests.exporters.spooling import make_process

COLLECTORS = {"http/protobuf": http_collector, "grpc": grpc_collector}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "_TRACES"):
        for key in ("ENDPOINT", "PROTOCOL", "HEADERS", "COMPRESSION"):
            monkeypatch.delenv(f"OTEL_EXPORTER_OTLP{name}_{key}", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture(params=COLLECTORS)
def protocol(request: pytest.FixtureRequest) -> str:
    """Both protocols."""
    return str(request.param)


@pytest.fixture
def collector(protocol: str) -> Iterator[Collector]:
    """A collector that takes what it gets, unless told otherwise."""
    collect: Callable[[], AbstractContextManager[Collector]] = COLLECTORS[protocol]
    with collect() as running:
        yield running


@pytest.fixture
def http() -> Iterator[Collector]:
    """A collector over HTTP."""
    with http_collector() as running:
        yield running


@pytest.fixture
def make_sink(settings: Any) -> Iterator[Callable[..., CollectorSink]]:
    """Return a function that makes a sink for the settings that it is given."""
    made: list[CollectorSink] = []

    def make(**options: Any) -> CollectorSink:
        settings.OTEL_AUDIT = {"DATABASE": "audit", "OTLP": {"durable": True, "timeout": 5, **options}}
        made.append(CollectorSink())
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def names(collector: Collector) -> list[str]:
    """Return the names of the spans that a collector has taken."""
    return [span.name for span in collector.spans()]


def without(name: str) -> Callable[[Any], bool]:
    """Return what finds a span of this name in a request."""
    return lambda request: any(
        span.name == name for spans in request.resource_spans for scope in spans.scope_spans for span in scope.spans
    )


def refusal(protocol: str, text: str = "no such thing") -> Answer:
    """Return how a collector says that it will never take a request."""
    body = Status(message=text).SerializeToString() if protocol != "grpc" else text.encode()
    return Answer(400, body, PROTOBUF, code=grpc.StatusCode.INVALID_ARGUMENT, keeps=False)


def rejected(count: int, text: str = "") -> bytes:
    """Return the body of a partial success."""
    partial = ExportTracePartialSuccess(rejected_spans=count, error_message=text)
    return bytes(ExportTraceServiceResponse(partial_success=partial).SerializeToString())


def test_what_the_collector_took_is_confirmed(
    collector: Collector, protocol: str, make_sink: Callable[..., CollectorSink]
) -> None:
    sink = make_sink(endpoint=collector.endpoint, protocol=protocol, headers={"authorization": "Bearer x"})

    outcome = sink([make_process("Ship"), make_process("Pack")])

    assert (outcome.stored, outcome.rejections) == (2, [])
    assert names(collector) == ["Ship", "Pack"]
    assert collector.asked == 1


def test_what_no_span_is_made_of_is_confirmed_without_asking(
    http: Collector, make_sink: Callable[..., CollectorSink]
) -> None:
    sink = make_sink(endpoint=http.endpoint)

    outcome = sink([make_process("Ship", sampled=False)])

    assert (outcome.stored, http.asked) == (1, 0)


def test_a_record_that_cannot_be_read_costs_no_other(http: Collector, make_sink: Callable[..., CollectorSink]) -> None:
    sink = make_sink(endpoint=http.endpoint)
    broken = json.dumps({"v": 1, "type": "span", "kind": "process", "span": {"trace_id": "zz"}}).encode()

    outcome = sink([make_process("Ship"), broken, make_process("Pack")])

    assert [(rejection.index, rejection.reason) for rejection in outcome.rejections] == [(1, POISON)]
    assert (outcome.stored, names(http)) == (2, ["Ship", "Pack"])


def test_the_span_that_a_collector_refuses_is_found_and_the_others_arrive(
    collector: Collector, protocol: str, make_sink: Callable[..., CollectorSink]
) -> None:
    is_poison = without("bad")
    collector.answer = lambda request: refusal(protocol, "bad it is") if is_poison(request) else TAKEN
    sink = make_sink(endpoint=collector.endpoint, protocol=protocol)
    payloads = [make_process(f"number {number}") for number in range(9)]
    payloads[5] = make_process("bad")

    outcome = sink(payloads)

    ((index, reason, error),) = [(one.index, one.reason, one.error) for one in outcome.rejections]
    assert (index, reason) == (5, REFUSED)
    assert "bad it is" in error
    assert outcome.stored == 8
    assert set(names(collector)) == {f"number {number}" for number in range(9) if number != 5}
    assert len(names(collector)) == 8


@pytest.mark.parametrize(
    ("headers", "encode"),
    [
        (PROTOBUF, rejected),
        (
            {"Content-Type": "application/json"},
            lambda count, text: json.dumps(
                {"partialSuccess": {"rejectedSpans": str(count), "errorMessage": text}}
            ).encode(),
        ),
    ],
    ids=["protobuf", "json"],
)
def test_a_partial_success_is_a_failure_of_the_spans_that_it_rejects(
    http: Collector,
    make_sink: Callable[..., CollectorSink],
    headers: dict[str, str],
    encode: Callable[[int, str], bytes],
) -> None:
    is_poison = without("bad")
    http.answer = lambda request: (
        Answer(200, encode(1, "too old"), headers, keeps=False) if is_poison(request) else TAKEN
    )
    sink = make_sink(endpoint=http.endpoint)

    outcome = sink([make_process("good"), make_process("bad"), make_process("fine")])

    assert [(one.index, one.reason) for one in outcome.rejections] == [(1, REFUSED)]
    assert "rejected 1 spans: too old" in outcome.rejections[0].error
    assert set(names(http)) == {"good", "fine"}


def test_a_partial_success_over_grpc_is_a_failure_too(make_sink: Callable[..., CollectorSink]) -> None:
    with grpc_collector() as collector:
        is_poison = without("bad")
        collector.answer = lambda request: Answer(body=rejected(1), keeps=False) if is_poison(request) else TAKEN
        sink = make_sink(endpoint=collector.endpoint, protocol="grpc")

        outcome = sink([make_process("good"), make_process("bad")])

    assert [(one.index, one.reason) for one in outcome.rejections] == [(1, REFUSED)]


def test_a_warning_in_a_success_is_a_success(http: Collector, make_sink: Callable[..., CollectorSink]) -> None:
    http.answer = lambda _request: Answer(200, rejected(0, "please upgrade"), PROTOBUF)
    sink = make_sink(endpoint=http.endpoint)

    outcome = sink([make_process("Ship")])

    assert (outcome.stored, outcome.rejections) == (1, [])


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 405, 408, 429, 500, 501, 502, 503, 504])
def test_a_status_that_is_not_about_the_spans_lets_them_wait(
    http: Collector, make_sink: Callable[..., CollectorSink], status: int
) -> None:
    http.answer = lambda _request: Answer(status, b"go away", {"Content-Type": "text/plain"}, keeps=False)
    sink = make_sink(endpoint=http.endpoint)

    with pytest.raises(CollectorAwayError, match=f"answers {status}: go away"):
        sink([make_process("Ship"), make_process("Pack")])

    assert http.asked == 1


@pytest.mark.parametrize(
    "code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"]
)
def test_a_code_that_is_not_about_the_spans_lets_them_wait(make_sink: Callable[..., CollectorSink], code: str) -> None:
    with grpc_collector() as collector:
        collector.answer = lambda _request: Answer(body=b"go away", code=grpc.StatusCode[code], keeps=False)
        sink = make_sink(endpoint=collector.endpoint, protocol="grpc")

        with pytest.raises(CollectorAwayError, match=f"answers {code}: go away"):
            sink([make_process("Ship")])


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True), 20, 30),
        (lambda: format_datetime(datetime.now(UTC) - timedelta(seconds=30), usegmt=True), 0, 0),
        ("tomorrow", 0, 0),
        ("inf", 0, 0),
        ("-5", 0, 0),
        ("86400", MAX_WAIT_S, MAX_WAIT_S),
        (None, 0, 0),
    ],
    ids=["seconds", "date", "past date", "no date", "no number", "negative", "a day", "absent"],
)
def test_how_long_to_wait_is_what_the_collector_says(
    http: Collector, make_sink: Callable[..., CollectorSink], value: Any, least: float, most: float
) -> None:
    said = value() if callable(value) else value
    http.answer = lambda _request: Answer(429, b"", {} if said is None else {"Retry-After": said}, keeps=False)
    sink = make_sink(endpoint=http.endpoint)

    with pytest.raises(CollectorAwayError) as caught:
        sink([make_process("Ship")])

    assert least <= caught.value.after_s <= most


def test_a_collector_over_its_quota_says_over_grpc_how_long_to_wait(make_sink: Callable[..., CollectorSink]) -> None:
    said = RetryInfo(retry_delay=Duration(seconds=3, nanos=500_000_000)).SerializeToString()
    with grpc_collector() as collector:
        collector.answer = lambda _request: Answer(
            code=grpc.StatusCode.RESOURCE_EXHAUSTED, metadata=(("google.rpc.retryinfo-bin", said),), keeps=False
        )
        sink = make_sink(endpoint=collector.endpoint, protocol="grpc")

        with pytest.raises(CollectorAwayError) as caught:
            sink([make_process("Ship")])

    assert caught.value.after_s == 3.5


def test_a_request_over_the_size_that_a_collector_takes_is_halved(
    collector: Collector, protocol: str, make_sink: Callable[..., CollectorSink]
) -> None:
    def answer(request: Any) -> Answer:
        fits = request.ByteSize() <= 4000
        return TAKEN if fits else Answer(413, code=grpc.StatusCode.RESOURCE_EXHAUSTED, keeps=False)

    collector.answer = answer
    sink = make_sink(endpoint=collector.endpoint, protocol=protocol)

    outcome = sink([make_process("x" * 900 + str(number)) for number in range(20)])

    assert (outcome.stored, outcome.rejections) == (20, [])
    assert len(set(names(collector))) == len(names(collector)) == 20


def large_process(name: str = "Ship", **attributes: Any) -> bytes:
    """Return the record of a process with other attributes than usual."""
    sealed = json.loads(make_process(name))
    sealed["facts"]["attributes"] = attributes
    return json.dumps(sealed).encode()


def takes_bytes(limit: int, status: int = 413) -> Callable[[Any], Answer]:
    """Return how a collector answers that takes requests of so many bytes."""
    code = grpc.StatusCode.RESOURCE_EXHAUSTED if status == 413 else grpc.StatusCode.INVALID_ARGUMENT
    return lambda request: TAKEN if request.ByteSize() <= limit else Answer(status, code=code, keeps=False)


@pytest.mark.parametrize("status", [413, 400])
def test_a_span_over_the_size_that_a_collector_takes_is_cut_and_says_so(
    collector: Collector, protocol: str, make_sink: Callable[..., CollectorSink], status: int
) -> None:
    collector.answer = takes_bytes(3000, status)
    sink = make_sink(endpoint=collector.endpoint, protocol=protocol, level="audit")

    outcome = sink([make_process("Pack"), large_process(big="é" * 60_000, small="tea"), make_process("Ship")])

    assert (outcome.stored, outcome.rejections) == (3, [])
    (cut,) = (span for span in collector.spans() if any(item.key == "big" for item in span.attributes))
    found = {item.key: item.value for item in cut.attributes}
    assert len(cut.SerializeToString()) < 3000
    assert set(found["big"].string_value) == {"é"} and len(found["big"].string_value) == 1024
    assert (
        found["small"].string_value,
        [value.string_value for value in found["audit.changed"].array_value.values],
    ) == (
        "tea",
        ["big"],
    )
    assert len(collector.spans()) == 3


def test_what_is_lost_in_a_span_of_too_many_attributes_is_counted(
    collector: Collector, protocol: str, make_sink: Callable[..., CollectorSink]
) -> None:
    collector.answer = takes_bytes(20_000)
    sink = make_sink(endpoint=collector.endpoint, protocol=protocol, level="audit")

    outcome = sink([large_process(**{f"key {number}": "x" * 200 for number in range(500)})])

    (span,) = collector.spans()
    assert outcome.rejections == []
    assert span.dropped_attributes_count > 400
    assert "audit.record.id" in {item.key for item in span.attributes}


def test_a_small_span_that_is_refused_is_not_cut(
    collector: Collector, protocol: str, make_sink: Callable[..., CollectorSink]
) -> None:
    collector.answer = lambda request: refusal(protocol) if request.resource_spans else TAKEN
    sink = make_sink(endpoint=collector.endpoint, protocol=protocol, level="audit")

    (rejection,) = sink([large_process(big="x" * 20_000)]).rejections

    assert rejection.reason == REFUSED
    assert collector.asked == 2


def test_a_span_that_is_too_large_however_it_is_cut_goes_into_quarantine(
    collector: Collector, protocol: str, make_sink: Callable[..., CollectorSink]
) -> None:
    collector.answer = takes_bytes(50)
    sink = make_sink(endpoint=collector.endpoint, protocol=protocol, level="audit")

    (rejection,) = sink([large_process(big="x" * 20_000, many=["x" * 300] * 300)]).rejections

    assert rejection.reason == REFUSED


def test_what_refuses_even_an_empty_request_is_no_collector_and_nothing_is_put_aside(
    collector: Collector, protocol: str, make_sink: Callable[..., CollectorSink]
) -> None:
    collector.answer = lambda _request: refusal(protocol, "this is a web server")
    sink = make_sink(endpoint=collector.endpoint, protocol=protocol)

    with pytest.raises(CollectorAwayError, match=r"takes no OTLP at all: .*this is a web server"):
        sink([make_process("Ship"), make_process("Pack")])

    assert collector.asked == 2


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("text/html", b"<h1>Sign in</h1>", "is no collector: it sends 'text/html'"),
        ("application/x-protobuf", b"\xff\xff", "cannot be read"),
        ("application/json", b"[", "cannot be read"),
    ],
)
def test_a_success_that_is_no_answer_of_a_collector_confirms_nothing(
    http: Collector, make_sink: Callable[..., CollectorSink], content_type: str, body: bytes, said: str
) -> None:
    http.answer = lambda _request: Answer(200, body, {"Content-Type": content_type})
    sink = make_sink(endpoint=http.endpoint)

    with pytest.raises(CollectorAwayError, match=said):
        sink([make_process("Ship")])


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("application/json", b'{"code": 3, "message": "bad span"}', "answers 503: bad span"),
        ("application/json", b"nonsense", "answers 503: no readable reason"),
        ("application/x-protobuf", b"\xff", "answers 503: no readable reason"),
        ("text/plain", b"token=hunter2secret is wrong", r"answers 503: token=\S* is wrong"),
    ],
)
def test_the_reason_is_what_the_collector_says_without_secrets(
    http: Collector, make_sink: Callable[..., CollectorSink], content_type: str, body: bytes, said: str
) -> None:
    http.answer = lambda _request: Answer(503, body, {"Content-Type": content_type}, keeps=False)
    sink = make_sink(endpoint=http.endpoint)

    with pytest.raises(CollectorAwayError, match=said) as caught:
        sink([make_process("Ship")])

    assert "hunter2secret" not in str(caught.value)


def test_a_collector_that_is_not_there_is_named_without_the_credentials_of_its_url(
    make_sink: Callable[..., CollectorSink], protocol: str
) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sink = make_sink(endpoint=f"http://anna:hunter2@127.0.0.1:{port}/v1/traces", protocol=protocol, timeout=2)

    with pytest.raises(CollectorAwayError, match="127.0.0.1" if protocol != "grpc" else "UNAVAILABLE") as caught:
        sink([make_process("Ship")])

    assert "hunter2" not in str(caught.value)


def test_a_collector_that_never_answers_is_given_up_after_the_timeout(
    make_sink: Callable[..., CollectorSink], protocol: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as hole:
        sink = make_sink(endpoint=f"http://127.0.0.1:{hole.getsockname()[1]}/v1/traces", protocol=protocol, timeout=0.3)
        began = time.monotonic()

        with pytest.raises(CollectorAwayError):
            sink([make_process("Ship")])

    assert 0.25 < time.monotonic() - began < 30


def test_a_collector_that_comes_back_is_found_again(make_sink: Callable[..., CollectorSink], http: Collector) -> None:
    answers = iter([Answer(503, keeps=False), TAKEN])
    http.answer = lambda _request: next(answers)
    sink = make_sink(endpoint=http.endpoint)
    with pytest.raises(CollectorAwayError):
        sink([make_process("Ship")])

    outcome = sink([make_process("Ship")])

    assert outcome.stored == 1
    assert names(http) == ["Ship"]


def test_a_missing_package_lets_the_spans_wait_and_is_named(
    make_sink: Callable[..., CollectorSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    sink = make_sink(endpoint="http://127.0.0.1:4318/v1/traces")

    with pytest.raises(CollectorAwayError, match="otel-audit\\[otlp\\]"):
        sink([make_process("Ship")])
