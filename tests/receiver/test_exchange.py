"""What the receiver answers: by the mounted view under WSGI and ASGI, and by its own server."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings
from django.urls import path
from google.rpc.status_pb2 import Status
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_audit import edges
from otel_audit.conf import conf
from otel_audit.models import RequestAuditEvent
from otel_audit.receiver import receive_traces, tokens
from otel_audit.receiver.asgi import application
from otel_audit.receiver.hashes import certificate_hash, token_hash
from otel_audit.receiver.tokens import Sender
from otel_audit.signals import audit_delivery_failed
from otel_audit.testing import AuditRecords, capture
from otel_audit_exporters import RedactingSpanExporter, otlp_requests
from otel_audit_exporters.otlp_requests import MAX_BYTES, MAX_SPANS
from otel_audit_exporters.pipeline import pipeline
from otel_audit_exporters.trace_level import TraceLevelExporter
from tests.exporters.spooling import spooled
from tests.requests.doors import CLIENT, ASGIDoor, Door, Reply, WSGIDoor, asgi_scope, receiving, sending

from .sending import JSON, PROTOBUF, Service, encoded, one_span, register, spans_in

PATH = "/v1/traces"
pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.usefixtures("fresh_pipeline", "fresh_provider"),
]
urlpatterns = [path("v1/traces", receive_traces)]


class OwnServer(ASGIDoor):
    """Calls the receiver's own application as uvicorn does."""

    name = "own"

    def _send(self, method: str, path: str, query: str, body: bytes, headers: dict[str, str], scheme: str) -> Reply:
        reply = Reply()
        scope = asgi_scope(method, path, query, headers, scheme, body)
        async_to_sync(application)(scope, receiving(body), sending(reply))
        return reply


DOORS: list[Door] = [WSGIDoor(), ASGIDoor(), OwnServer()]


@pytest.fixture(params=DOORS, ids=lambda door: door.name)
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    """Each way in; where our own errors are the subject a test lets them be caught."""
    yield request.param


@pytest.fixture
def records() -> Iterator[AuditRecords]:
    """What was recorded."""
    with capture() as found:
        yield found


@pytest.fixture
def alarms() -> Iterator[list[str]]:
    """The reasons of the alarms."""
    found: list[str] = []

    def note(**kwargs: Any) -> None:
        found.append(kwargs["reason"])

    audit_delivery_failed.connect(note)
    yield found
    audit_delivery_failed.disconnect(note)


Send = Callable[..., Reply]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Sender]:
    """The tokens, without a database: how they are read is not what is tested here."""
    found: dict[str, Sender] = {}
    monkeypatch.setattr(tokens.Senders, "_read", lambda self: found)
    return found


@pytest.fixture
def token(known: dict[str, Sender]) -> str:
    """The token of the service ``shop``."""
    known[token_hash("otel_audit_shop")] = Sender("shop", None)
    return "otel_audit_shop"


@pytest.fixture
def send(door: Door, token: str) -> Send:
    """Return a function that sends a body with everything right that the test does not change."""

    def post(body: bytes, content_type: str = PROTOBUF, **headers: str) -> Reply:
        said = {"Content-Type": content_type, "Authorization": f"Bearer {token}"}
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        return door.post(PATH, body, headers={name: value for name, value in said.items() if value})

    return post


def a_request() -> ExportTraceServiceRequest:
    """Return a process with one step and one registration."""
    service = Service()
    with service.process(), service.step() as span:
        register(span)
    return service.request()


HOUR_NS = 3_600_000_000_000


def crowded(number: int) -> ExportTraceServiceRequest:
    """Return a request with a process that has so many attributes, and the two of a process."""
    request = one_span()
    (span,) = spans_in(request)
    for index in range(number):
        span.attributes.add(key=f"key {index}").value.string_value = "x"
    return request


def reason(reply: Reply) -> tuple[int, int, str]:
    """Return HTTP status, gRPC's code and the reason; the body has the type that the answer says."""
    if reply.header("Content-Type") == PROTOBUF:
        status = Status.FromString(reply.body)
        return reply.status, status.code, status.message
    found = json.loads(reply.body)
    return reply.status, found["code"], found["message"]


# ── taken ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize("compression", ["", "gzip", "identity"])
def test_spans_are_taken_in_both_encodings_with_and_without_gzip(
    send: Send, records: AuditRecords, content_type: str, compression: str
) -> None:
    body = encoded(a_request(), content_type)

    reply = send(gzip.compress(body) if compression == "gzip" else body, content_type, Content_Encoding=compression)

    assert (reply.status, reply.header("Content-Type")) == (200, content_type)
    if content_type == PROTOBUF:
        assert ExportTraceServiceResponse.FromString(reply.body) == ExportTraceServiceResponse()
    else:
        assert json.loads(reply.body) == {}
    (step,), (process,), (registration,) = records.steps, records.processes, records.registrations
    assert (step.process_id, registration.step_id) == (process.id, step.id)


def test_both_encodings_make_the_same_records(send: Send, records: AuditRecords) -> None:
    request = a_request()

    for content_type in (PROTOBUF, f"{JSON}; charset=utf-8"):
        assert send(encoded(request, content_type), content_type).status == 200

    assert len({row.id for row in records.processes}) == 1
    assert len({row.record_hash for row in records.processes}) == 1


def test_an_empty_request_is_taken(send: Send, records: AuditRecords) -> None:
    assert send(b"").status == 200
    assert list(records) == []


def test_what_is_taken_lies_in_the_spool_when_the_answer_comes(send: Send, tmp_path: Path) -> None:
    audit = {"DATABASE": "audit", "DELIVERY": "spool", "SPOOL_DIR": tmp_path / "spool", "DRAIN": "external"}
    with override_settings(OTEL_AUDIT=audit):
        reply = send(encoded(a_request(), PROTOBUF))

        assert reply.status == 200
        kinds = sorted(envelope["kind"] for envelope in spooled(conf.spool_dir))
    assert kinds == ["process", "registration", "step"]


@pytest.mark.django_db(databases=["default", "audit"], transaction=True)
@pytest.mark.parametrize("fsync", ["interval", "always"])
@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_repeats_are_not_doubled(send: Send, tmp_path: Path, delivery: str, fsync: str) -> None:
    from otel_audit import flush, status
    from otel_audit.models import ProcessAuditEvent

    body = encoded(a_request(), PROTOBUF)
    audit = {"DATABASE": "audit", "DELIVERY": delivery, "SPOOL_DIR": tmp_path / "spool", "FSYNC": fsync}
    with override_settings(OTEL_AUDIT=audit):
        replies = [send(body).status for _ in range(3)]

        assert flush(20) == 0
        assert status()["quarantined"] == 0
    assert replies == [200] * 3
    assert ProcessAuditEvent.objects.count() == 1


# ── refused ─────────────────────────────────────────────────────────────────────────────────────

BOMB = gzip.compress(bytes(MAX_BYTES + 1))
DEEP_JSON = b'{"resourceSpans":[{"resource":{"attributes":[{"value":' + b'{"arrayValue":{"values":[' * 300
DEEP_JSON += b"]}}" * 300 + b"}]}}]}"


def deep_protobuf() -> bytes:
    """Return a request with an attribute that is nested 60 levels deep, in a hundred messages and more."""
    value = b""
    for _ in range(60):
        value = b"\x2a" + _length(b"\x0a" + _length(value))  # array_value, values
    attribute = b"\x12" + _length(value)
    return b"\x0a" + _length(b"\x0a" + _length(b"\x0a" + _length(attribute)))


def _length(inside: bytes) -> bytes:
    size = len(inside)
    return (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + inside


TRUNCATED = one_span().SerializeToString()[:-3]


@pytest.mark.parametrize("door", [DOORS[0], DOORS[2]], ids=lambda door: door.name)
@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        pytest.param(b"\xff", {}, 400, 3, id="malformed"),
        pytest.param(TRUNCATED, {}, 400, 3, id="truncated"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", {}, 400, 3, id="long varint"),
        pytest.param(DEEP_JSON, {}, 400, 3, id="deep in JSON"),
        pytest.param(deep_protobuf(), {}, 400, 3, id="deep in protobuf"),
        pytest.param(b"x", {"Content_Encoding": "gzip"}, 400, 3, id="no gzip"),
        pytest.param(gzip.compress(b"x")[:-1], {"Content_Encoding": "gzip"}, 400, 3, id="gzip cut off"),
        pytest.param(gzip.compress(b"") + b"x", {"Content_Encoding": "gzip"}, 400, 3, id="gzip with a tail"),
        pytest.param(zlib.compress(b""), {"Content_Encoding": "deflate"}, 415, 3, id="deflate"),
        pytest.param(b"", {"Content_Encoding": "gzip, gzip"}, 415, 3, id="gzip twice"),
        pytest.param(BOMB, {"Content_Encoding": "gzip"}, 413, 8, id="gzip bomb"),
        pytest.param(bytes(MAX_BYTES + 1), {}, 413, 8, id="too large"),
        pytest.param(b"", {"Authorization": ""}, 401, 16, id="no token"),
        pytest.param(b"", {"Authorization": "Bearer otel_audit_x"}, 401, 16, id="wrong token"),
        pytest.param(b"", {"Authorization": "Bearer"}, 401, 16, id="bare bearer"),
        pytest.param(b"", {"Authorization": "Basic c2hvcDp4"}, 401, 16, id="basic"),
        pytest.param(b"", {"Authorization": "Bearer \xe9"}, 401, 16, id="no ASCII"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_the_encoding_of_the_request(
    send: Send,
    records: AuditRecords,
    content_type: str,
    body: bytes,
    headers: Mapping[str, str],
    status: int,
    code: int,
) -> None:
    reply = send(body, content_type, **headers)

    assert reply.header("Content-Type") == content_type
    assert reason(reply)[:2] == (status, code)
    assert reason(reply)[2].endswith(".")
    assert [row for row in records if not isinstance(row, RequestAuditEvent)] == []


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/grpc", "multipart/form-data; boundary=x"])
def test_another_content_type_is_refused(send: Send, content_type: str) -> None:
    assert reason(send(b"{}", content_type))[:2] == (415, 3)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'"x"',
        b'{"resourceSpans": 1}',
        b'{"resourceSpans": [1]}',
        b'{"resourceSpans": {"a": 1}}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 1}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": 1e400}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "' + b"9" * 10_000 + b'"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": ' + b"9" * 10_000 + b"}]}]}]}",
        b"[" * 100_000,
        b"\xff\xfe{}",
        b'{"resourceSpans": [{}]} x',
    ],
)
def test_json_that_is_no_request_is_refused(send: Send, body: bytes) -> None:
    assert reason(send(body, JSON))[:2] == (400, 3)


def crowd(level: int, number: int) -> ExportTraceServiceRequest:
    """Return a request with so many resources (0), scopes (1) or spans (2), all empty."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    scope_spans = resource_spans.scope_spans.add()
    add = (request.resource_spans.add, resource_spans.scope_spans.add, scope_spans.spans.add)[level]
    for _ in range(number):
        add()
    return request


@pytest.mark.parametrize("level", [0, 1, 2])
def test_more_spans_than_ten_thousand_are_refused(send: Send, level: int) -> None:
    assert reason(send(crowd(level, MAX_SPANS + 1).SerializeToString()))[:2] == (413, 8)


@pytest.mark.parametrize("what", ["{}", '{"scopeSpans": [{"spans": [{}]}]}'])
def test_json_with_too_many_objects_is_refused(send: Send, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(otlp_requests, "MAX_OBJECTS", 20_000)
    body = f'{{"resourceSpans": [{", ".join([what] * 20_000)}]}}'.encode()

    assert reason(send(body, JSON))[:2] == (413, 8)


def test_one_bad_span_refuses_all_of_its_request(send: Send, records: AuditRecords) -> None:
    request = a_request()
    list(spans_in(request))[-1].start_time_unix_nano = 1

    assert send(encoded(request, PROTOBUF)).status == 400
    assert list(records) == []


def test_another_service_than_the_token_s_is_refused(send: Send, records: AuditRecords) -> None:
    service = Service("bank")
    with service.process():
        pass

    assert reason(send(encoded(service.request(), PROTOBUF)))[:2] == (403, 7)
    assert records.processes == []


def test_a_record_id_that_comes_again_with_another_content_is_a_conflict(
    send: Send, records: AuditRecords, alarms: list[str]
) -> None:
    request = one_span()
    send(encoded(request, PROTOBUF))
    (span,) = spans_in(request)
    span.name = "Something else"

    reply = send(encoded(request, PROTOBUF))

    assert reason(reply)[:2] == (409, 6)
    assert [row.name for row in records.processes] == ["Create product"]
    assert alarms == ["conflict"]


def test_who_sends_more_than_the_token_allows_is_told_when_to_come_again(
    door: Door, records: AuditRecords, token: str, known: dict[str, Sender]
) -> None:
    known[token_hash(token)] = Sender("shop", 1)
    service = Service()
    for _ in range(20):
        service.tracer.start_span("query").end()
    headers = {"Content-Type": PROTOBUF, "Authorization": f"Bearer {token}"}

    replies = [door.post(PATH, encoded(service.request(), PROTOBUF), headers=headers) for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 429]
    assert 1 <= int(replies[1].header("Retry-After") or 0) <= 10
    assert reason(replies[1])[1] == 8


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(door: Door, method: str) -> None:
    reply = door.request(method, PATH)

    assert (reason(reply)[0], reply.header("Allow")) == (405, "POST")


def test_the_own_server_has_no_other_path() -> None:
    assert reason(OwnServer().post("/v1/logs"))[:2] == (404, 5)


def test_a_body_that_the_client_did_not_send_whole_is_refused(token: str, records: AuditRecords) -> None:
    headers = {"Content-Type": PROTOBUF, "Authorization": f"Bearer {token}"}
    body = encoded(a_request(), PROTOBUF)
    reply, messages = Reply(), [{"type": "http.disconnect"}, {"type": "http.request", "body": body, "more_body": True}]

    async def receive() -> dict[str, Any]:
        return messages.pop()

    async_to_sync(application)(asgi_scope("POST", PATH, headers=headers), receive, sending(reply))

    assert reason(reply)[0] == 400
    assert list(records) == []


def test_a_body_shorter_than_it_says_is_refused(token: str) -> None:
    body = encoded(a_request(), PROTOBUF)
    headers = {"Content-Type": PROTOBUF, "Authorization": f"Bearer {token}", "Content-Length": str(len(body) + 1)}

    assert reason(WSGIDoor().post(PATH, body, headers=headers))[0] == 400


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: one_span(start_time_unix_nano=1_000), id="a span of 1970"),
        pytest.param(lambda: one_span(start_time_unix_nano=time.time_ns() + 2 * HOUR_NS), id="a span of the future"),
        pytest.param(lambda: one_span(start_time_unix_nano=2**64 - 1), id="a span of 2554"),
        pytest.param(lambda: crowded(10_000), id="10,000 attributes"),
    ],
)
def test_a_span_that_no_sane_sender_sends_is_refused_with_an_alarm_and_nothing_is_written(
    send: Send, records: AuditRecords, alarms: list[str], content_type: str, make: Callable[[], Any]
) -> None:
    request = a_request()
    request.MergeFrom(make())  # what is good in it is refused with it

    reply = send(encoded(request, content_type), content_type)

    assert reason(reply)[:2] == (400, 3)
    assert "Traceback" not in reason(reply)[2] and "otel_audit" not in reason(reply)[2]
    assert (list(records), alarms) == ([], ["refused"])


@pytest.mark.parametrize("number", [128, 1_000])
def test_a_span_with_many_attributes_is_taken(send: Send, records: AuditRecords, number: int) -> None:
    assert send(encoded(crowded(number - 2), PROTOBUF)).status == 200
    assert len(records.processes) == 1


def test_a_wrong_token_raises_the_alarm(send: Send, alarms: list[str]) -> None:
    send(b"", Authorization="Bearer otel_audit_x")

    assert alarms == ["denied"]


# ── client certificates ─────────────────────────────────────────────────────────────────────────

SUBJECT = "CN=till,O=Example"


@pytest.fixture
def certificate(known: dict[str, Sender]) -> dict[str, str]:
    """The headers with which a proxy says whose certificate it has checked."""
    known[certificate_hash(SUBJECT)] = Sender("shop", None)
    return {"Content-Type": PROTOBUF, "X-Client-Certificate": SUBJECT}


def behind(*proxies: str, header: str | None = "X-Client-Certificate") -> override_settings:
    """Return settings that believe ``proxies``."""
    audit = {"DATABASE": "audit", "TRUSTED_PROXIES": proxies, "RECEIVER_CERTIFICATE_HEADER": header}
    return override_settings(OTEL_AUDIT=audit)


def test_who_has_a_certificate_that_a_trusted_proxy_has_checked_is_let_in(
    door: Door, records: AuditRecords, certificate: dict[str, str]
) -> None:
    with behind(CLIENT):
        reply = door.post(PATH, encoded(a_request(), PROTOBUF), headers=certificate)

    assert reply.status == 200
    assert [row.service_name for row in records.processes] == ["shop"]


@pytest.mark.parametrize(
    ("proxies", "header", "changes"),
    [
        pytest.param((), "X-Client-Certificate", {}, id="no trusted proxy"),
        pytest.param(("203.0.113.9",), "X-Client-Certificate", {}, id="another proxy"),
        pytest.param(("203.0.113.9",), "X-Client-Certificate", {"X-Forwarded-For": "203.0.113.9"}, id="as it says"),
        pytest.param((CLIENT,), None, {}, id="no setting"),
        pytest.param((CLIENT,), "X-Other", {}, id="another header"),
        pytest.param((CLIENT,), "X-Client-Certificate", {"X-Client-Certificate": "CN=bank"}, id="not known"),
        pytest.param((CLIENT,), "X-Client-Certificate", {"X-Client-Certificate": ""}, id="empty"),
        pytest.param((CLIENT,), "X-Client-Certificate", {"X-Client-Certificate": f"{SUBJECT},{SUBJECT}"}, id="twice"),
        pytest.param((CLIENT,), "X-Client-Certificate", {"Authorization": "Bearer x"}, id="with a wrong token"),
    ],
)
def test_nobody_else_is_let_in_by_that_header(
    door: Door,
    records: AuditRecords,
    certificate: dict[str, str],
    proxies: tuple[str, ...],
    header: str | None,
    changes: dict[str, str],
) -> None:
    with behind(*proxies, header=header):
        reply = door.post(PATH, encoded(a_request(), PROTOBUF), headers={**certificate, **changes})

    assert reason(reply)[:2] == (401, 16)
    assert records.processes == []


@pytest.mark.parametrize("shown", [SUBJECT, f"certificate {SUBJECT}", f"certificate%20{SUBJECT}"])
def test_the_name_of_a_certificate_is_no_token(door: Door, certificate: dict[str, str], shown: str) -> None:
    headers = {"Content-Type": PROTOBUF, "Authorization": f"Bearer {shown}"}

    with behind(CLIENT):
        assert door.post(PATH, encoded(a_request(), PROTOBUF), headers=headers).status == 401


def test_a_certificate_speaks_for_its_own_service_alone(door: Door, certificate: dict[str, str]) -> None:
    service = Service("bank")
    with service.process():
        pass

    with behind(CLIENT):
        assert door.post(PATH, encoded(service.request(), PROTOBUF), headers=certificate).status == 403


def test_a_header_that_the_client_sent_beside_that_of_the_proxy_lets_nobody_in(
    certificate: dict[str, str],
) -> None:
    body, reply = encoded(a_request(), PROTOBUF), Reply()
    scope = asgi_scope("POST", PATH, headers=certificate, body=body)
    scope["headers"] = [(b"x-client-certificate", b"CN=bank"), *scope["headers"]]

    with behind(CLIENT):
        async_to_sync(application)(scope, receiving(body), sending(reply))

    assert reply.status == 401


# ── our own trouble ─────────────────────────────────────────────────────────────────────────────


def test_a_spool_that_takes_nothing_is_said_with_503_and_a_time(send: Send, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "DELIVERY": "spool", "SPOOL_DIR": tmp_path / "file"}):
        reply = send(encoded(a_request(), PROTOBUF))

    assert reason(reply)[:2] == (503, 14)
    assert int(reply.header("Retry-After") or 0) > 0


def test_a_database_that_takes_nothing_is_said_with_503_where_there_is_no_spool(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otel_audit_exporters.writer import RetryLaterError

    def away(payloads: Any) -> Any:
        raise RetryLaterError("it is away")

    monkeypatch.setattr(pipeline._draining, "_store", away)
    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "DELIVERY": "sync"}):
        reply = send(encoded(a_request(), PROTOBUF))

    assert reason(reply)[:2] == (503, 14)


def test_a_bug_of_ours_is_said_with_503_and_no_more(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(records: Any) -> None:
        raise ZeroDivisionError("internals")

    monkeypatch.setattr(edges, "reraise", False)
    monkeypatch.setattr(pipeline, "receive", broken)

    reply = send(encoded(a_request(), JSON), JSON)

    assert reason(reply)[:2] == (503, 14)
    assert reply.header("Retry-After") is not None
    assert b"internals" not in reply.body


def test_while_recording_is_off_nothing_is_acknowledged(send: Send) -> None:
    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "ENABLED": False}):
        assert reason(send(encoded(a_request(), PROTOBUF)))[:2] == (503, 14)


def test_an_unknown_token_is_not_refused_for_good_while_tokens_cannot_be_read(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    def away(self: Any) -> Any:
        raise OperationalError("the database is away")

    monkeypatch.setattr(tokens.Senders, "_read", away)

    assert reason(send(encoded(a_request(), PROTOBUF)))[:2] == (503, 14)


def test_a_known_token_is_taken_while_tokens_cannot_be_read(
    send: Send, records: AuditRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    def away(self: Any) -> Any:
        raise OperationalError("the database is away")

    body = encoded(a_request(), PROTOBUF)
    send(body)
    monkeypatch.setattr(tokens.Senders, "_read", away)
    monkeypatch.setattr(tokens, "REFRESH_S", -1.0)

    assert send(body).status == 200

    monkeypatch.setattr(tokens, "KEPT_S", 0.0)
    assert send(body).status == 503


def test_the_view_asks_for_no_transaction_and_no_sign_in() -> None:
    view: Any = receive_traces

    assert (view._non_atomic_requests, view.login_required, view.csrf_exempt) == ({"default"}, False, True)


# ── the request that brings spans ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("door", DOORS[:2], ids=lambda door: door.name)
def test_the_request_that_brings_spans_leaves_no_record_unless_it_was_denied(send: Send, records: AuditRecords) -> None:
    statuses = [send(b"").status, send(b"\xff").status, send(b"", "text/plain").status]
    statuses += [send(b"", Authorization="Bearer x").status]

    assert statuses == [200, 400, 415, 401]
    assert [row.status_code for row in records.requests] == [401]


@pytest.mark.parametrize("door", DOORS[:2], ids=lambda door: door.name)
def test_a_rule_of_the_site_has_it_recorded(send: Send, records: AuditRecords) -> None:
    policy = [{"path": "^/v1/traces$", "level": "metadata"}]
    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "POLICY": policy}):
        send(b"")

    assert [row.url for row in records.requests] == [PATH]


@pytest.mark.parametrize("door", DOORS[:2], ids=lambda door: door.name)
@pytest.mark.parametrize("authorization", [None, "Bearer x"])
@pytest.mark.parametrize("forwarding", [RedactingSpanExporter, TraceLevelExporter])
def test_a_site_that_sends_its_spans_to_itself_does_not_go_round_for_ever(
    send: Send, records: AuditRecords, forwarding: type[RedactingSpanExporter], authorization: str | None
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(forwarding(exporter)))
    foreign = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(foreign))
    trace.set_tracer_provider(provider)

    send(b"", **({} if authorization is None else {"Authorization": authorization}))

    assert exporter.get_finished_spans() == ()
    (span,) = foreign.get_finished_spans()
    before = len(records.requests)
    assert send(encode_spans([span]).SerializeToString()).status == 200
    assert len(records.requests) == before
