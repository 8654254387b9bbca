"""A bug of ours, wherever it strikes, changes no response: it is logged and counted, and nothing stays behind."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace

from otel_audit import edges
from otel_audit.scope import current_note, current_request
from otel_audit.testing import AuditRecords

from .conftest import URLS
from .doors import Door

pytestmark = [pytest.mark.urls(URLS), pytest.mark.usefixtures("fresh_provider", "fresh_pipeline")]

PLACES = [
    "otel_audit.passage.RequestScope",
    "otel_audit.passage._decide",
    "otel_audit.passage.Passage._start_span",
    "otel_audit.passage.site_tracer",
    "otel_audit.passage.first_attributes",
    "otel_audit.passage.conclude_span",
    "otel_audit.passage.Passage._end_span",
    "otel_audit.passage.conclude",
    "otel_audit.passage.request_facts",
    "otel_audit.passage.watch_stream",
    "otel_audit.passage._content_size",
    "otel_audit.request_scope.RequestScope.unresolved_user",
    "otel_audit.request_scope.RequestScope.settle_actor",
    "otel_audit.request_scope.RequestScope.view_found",
    "otel_audit.request_scope.RequestScope.failed",
    "otel_audit.request_scope.RequestScope.is_recorded",
    "otel_audit.request_scope.RequestScope.server_span_started",
    "otel_audit_exporters.pipeline.Pipeline.start",
    "otel_audit_exporters.pipeline.Pipeline.request",
    "otel_audit_exporters.pipeline.Pipeline.pump",
    "otel_audit_exporters.pipeline.Pipeline._deliver",
    "otel_audit_exporters.pipeline.encode_request",
    "otel_audit_exporters.processor.recognise",
]
#: Without these a record knows less; it is there nevertheless.
HARMLESS = {
    "otel_audit.passage.Passage._start_span",
    "otel_audit.passage.site_tracer",
    "otel_audit.passage.conclude",
    "otel_audit.request_scope.RequestScope.unresolved_user",
    "otel_audit.request_scope.RequestScope.settle_actor",
    "otel_audit.request_scope.RequestScope.view_found",
    "otel_audit.request_scope.RequestScope.server_span_started",
    "otel_audit_exporters.pipeline.Pipeline.start",
    "otel_audit_exporters.pipeline.Pipeline.pump",
    "otel_audit_exporters.processor.recognise",
}
PATHS = ["/hello/", "/ahello/", "/crash/", "/stream/", "/file/", "/annotated/", "/hello"]


@pytest.fixture(autouse=True)
def _in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is logged and goes no further, as on a real site."""
    monkeypatch.setattr(edges, "reraise", False)
    current_request.set(None)
    current_note.set(None)


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume (a)?synchronous iterators:Warning")
@pytest.mark.parametrize("source", ["lean", "otel"])
@pytest.mark.parametrize("place", PLACES)
def test_bug_changes_no_response(
    door: Door,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
    records: AuditRecords,
    place: str,
    source: str,
) -> None:
    ours = settings.MIDDLEWARE
    settings.MIDDLEWARE = [entry for entry in ours if not entry.startswith("otel_audit.")]
    bare = [door.get(path) for path in PATHS]
    settings.MIDDLEWARE = ours
    if source == "otel":
        request.getfixturevalue("otel_django")

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("a bug of ours")

    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        audited = [door.get(path) for path in PATHS]
        writes_into_meta = door.get("/meta_extra/")  # without us it would fail

    # "/annotated/" writes through ``annotate``, which is there in any case.
    for ours_, theirs in zip(audited, bare, strict=True):
        assert (ours_.status, ours_.headers, ours_.body) == (theirs.status, theirs.headers, theirs.body)
    assert (writes_into_meta.status, writes_into_meta.body) == (200, b"noted")
    assert current_request.get() is None
    assert current_note.get() is None
    assert not trace.get_current_span().get_span_context().is_valid
    assert len(records.requests) == len(PATHS) + 1 or place not in HARMLESS
    caplog.clear()
