"""Streaming and file responses: recorded when they are closed, with the size and the error that the client got."""

from __future__ import annotations

from wsgiref.util import FileWrapper

import pytest
from django.core.handlers.wsgi import WSGIHandler

from otel_audit.testing import AuditRecords

from .conftest import URLS
from .doors import Door, wsgi_environ

pytestmark = [pytest.mark.urls(URLS), pytest.mark.usefixtures("span_source")]

warns_of_the_other_kind = pytest.mark.filterwarnings(
    "ignore:StreamingHttpResponse must consume (a)?synchronous iterators:Warning"
)


@warns_of_the_other_kind
@pytest.mark.parametrize("path", ["/stream/", "/astream/"])
def test_stream_is_recorded_with_its_true_size(door: Door, records: AuditRecords, path: str) -> None:
    reply = door.get(path)

    row = records.requests[0]
    assert reply.body == b"one two three"
    assert len(records.requests) == 1
    assert (row.status_code, row.response_size, row.outcome) == (200, 13, "success")
    assert row.error_type is None


@warns_of_the_other_kind
def test_file_is_recorded_with_its_true_size(door: Door, records: AuditRecords) -> None:
    reply = door.get("/file/")

    row = records.requests[0]
    assert len(reply.body) == 100_000
    assert len(records.requests) == 1
    assert (row.status_code, row.response_size, row.outcome) == (200, 100_000, "success")


def test_file_that_the_server_sends_itself_is_recorded_with_its_size(records: AuditRecords) -> None:
    environ = {**wsgi_environ("GET", "/file/"), "wsgi.file_wrapper": FileWrapper}

    response = WSGIHandler()(environ, lambda status, headers, exc_info=None: None)
    body = b"".join(response)
    response.close()

    (row,) = records.requests
    assert isinstance(response, FileWrapper)
    assert len(body) == 100_000
    assert (row.status_code, row.response_size, row.outcome) == (200, 100_000, "success")


@warns_of_the_other_kind
@pytest.mark.parametrize("path", ["/stream_crash/", "/astream_crash/"])
def test_error_in_mid_stream_is_a_failure_although_the_status_was_200(
    door: Door, records: AuditRecords, path: str
) -> None:
    reply = door.get(path)

    row = records.requests[0]
    assert str(reply.error) == "the teapot broke"
    assert len(records.requests) == 1
    assert (row.status_code, row.outcome) == (200, "failure")
    assert row.error_type == "tests.requests.views.ShopError"
    assert row.error_message == "the teapot broke"


@warns_of_the_other_kind
def test_process_inside_a_stream_belongs_to_the_request(door: Door, records: AuditRecords) -> None:
    door.get("/stream_process/")

    (request,) = records.requests
    (process,) = records.processes
    (step,) = records.steps
    assert process.request_id == request.id
    assert step.process_id == process.id
    assert process.trace_id == step.trace_id == request.trace_id
