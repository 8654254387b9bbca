"""The sampler records what is audited and leaves what is forwarded to the site's own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from django.test import override_settings
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes

from otel_audit.provider import site_tracer
from otel_audit.testing import capture
from otel_audit.trace_member import process_in
from otel_audit_exporters import AuditSampler, AuditSpanProcessor
from otel_audit_exporters.entry_points import audit_sampler

SAMPLERS: list[Sampler] = [
    ALWAYS_ON,
    ALWAYS_OFF,
    DEFAULT_ON,
    DEFAULT_OFF,
    TraceIdRatioBased(0.1),
    ParentBasedTraceIdRatio(0.1),
]

each_sampler = pytest.mark.parametrize("inner", SAMPLERS, ids=lambda sampler: sampler.get_description())


@each_sampler
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [(SpanKind.SERVER, None), (SpanKind.INTERNAL, {"audit.kind": "process"}), (None, {"audit.kind": "step"})],
)
def test_audit_span_is_always_recorded(
    inner: Sampler, kind: SpanKind | None, attributes: dict[str, str] | None
) -> None:
    sampler = AuditSampler(inner)

    results = [sampler.should_sample(None, random.getrandbits(128), "x", kind, attributes) for _ in range(50)]

    assert Decision.DROP not in {result.decision for result in results}
    assert all(result.attributes == (attributes or {}) for result in results)


@each_sampler
def test_other_spans_are_left_to_the_site(inner: Sampler) -> None:
    sampler = AuditSampler(inner)

    for _ in range(100):
        trace_id = random.getrandbits(128)
        ours = sampler.should_sample(None, trace_id, "SELECT", SpanKind.CLIENT, {"a": 1})
        theirs = inner.should_sample(None, trace_id, "SELECT", SpanKind.CLIENT, {"a": 1})
        assert ours.decision is theirs.decision


@each_sampler
def test_what_is_forwarded_stays_what_the_site_samples(inner: Sampler) -> None:
    sampler = AuditSampler(inner)

    for _ in range(100):
        trace_id = random.getrandbits(128)
        ours = sampler.should_sample(None, trace_id, "GET", SpanKind.SERVER)
        theirs = inner.should_sample(None, trace_id, "GET", SpanKind.SERVER)
        assert ours.decision.is_sampled() is theirs.decision.is_sampled()


@pytest.mark.parametrize("flag", [TraceFlags.DEFAULT, TraceFlags.SAMPLED])
def test_parent_that_was_not_sampled_drops_no_request(flag: int) -> None:
    context = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(flag))
    parent = set_span_in_context(NonRecordingSpan(context))

    result = AuditSampler(DEFAULT_ON).should_sample(parent, 1, "GET", SpanKind.SERVER)

    assert result.decision is (Decision.RECORD_AND_SAMPLE if flag else Decision.RECORD_ONLY)


def test_ordinary_span_inside_a_process_is_recorded_so_that_a_step_below_finds_it() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=AuditSampler(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(AuditSpanProcessor())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop")

    begin = tracer.start_as_current_span
    with (
        capture() as records,
        begin("Bake", attributes={"audit.kind": "process"}),
        begin("SELECT"),
        begin("INSERT"),
        begin("mix", attributes={"audit.kind": "step"}),
    ):
        pass

    assert records.steps[0].process_id == records.processes[0].id
    assert exporter.get_finished_spans() == ()


def test_tracers_that_were_made_before_get_it_too(fresh_provider: None) -> None:
    trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    tracer = trace.get_tracer("made before")

    with capture() as records:
        site_tracer()
        with tracer.start_as_current_span("Bake", attributes={"audit.kind": "process"}):
            pass

    assert len(records.processes) == 1


def test_sampler_that_the_site_set_itself_is_not_wrapped_again(fresh_provider: None) -> None:
    provider = TracerProvider(sampler=AuditSampler(ALWAYS_OFF), shutdown_on_exit=False)
    trace.set_tracer_provider(provider)

    with capture():
        site_tracer()

    assert provider.sampler.get_description() == "AuditSampler{AlwaysOffSampler}"


class Particular(Sampler):
    """A sampler of the site's own that says more than yes or no."""

    def __init__(self, decision: Decision, members: int) -> None:
        self.decision = decision
        self.members = members

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Say it."""
        state = TraceState([(f"member{number}", "1") for number in range(self.members)])
        return SamplingResult(self.decision, {**(attributes or {}), "sampling.rule": "mine"}, state)

    def get_description(self) -> str:
        """Return a name."""
        return "Particular"


GIVEN = "01a20df3-3586-75ca-90fe-8cc5cdc5e97e"


@pytest.mark.parametrize(("members", "kept"), [(0, 0), (1, 1), (31, 31), (32, 31)])
@pytest.mark.parametrize("decision", Decision)
@pytest.mark.parametrize("given", [None, GIVEN, "order-7"])
def test_process_is_named_in_the_trace_state_beside_what_the_sites_sampler_said(
    decision: Decision, members: int, kept: int, given: str | None
) -> None:
    attributes = {"audit.kind": "process"} | ({"audit.record.id": given} if given is not None else {})

    with override_settings(OTEL_AUDIT={"TRUSTED_PEERS": [{"secret": "a secret between services"}]}):
        result = AuditSampler(Particular(decision, members)).should_sample(None, 7, "Order", None, attributes)
        named = process_in(result.trace_state.to_header(), 7)

    assert result.attributes["sampling.rule"] == "mine"
    assert result.attributes["audit.record.id"] == named
    assert given != GIVEN or named == GIVEN
    assert len(result.trace_state) == kept + 1
    assert result.decision.is_sampled() == decision.is_sampled()
    assert result.decision.is_recording()


def test_the_trace_state_names_the_innermost_process_alone(caplog: pytest.LogCaptureFixture) -> None:
    sampler = AuditSampler(DEFAULT_ON)
    outer = TraceState([("vendor", "1"), ("otel-audit", "0" * 32)])
    parent = set_span_in_context(NonRecordingSpan(SpanContext(7, 2, True, TraceFlags(1), outer)))

    with override_settings(OTEL_AUDIT={"TRUSTED_PEERS": [{"secret": "a secret between services"}]}):
        result = sampler.should_sample(parent, 7, "Order", None, {"audit.kind": "process", "audit.record.id": GIVEN})
        named = process_in(result.trace_state.to_header(), 7)

    assert named == GIVEN
    assert list(result.trace_state) == ["otel-audit", "vendor"]
    assert caplog.records == []


@pytest.mark.parametrize("attributes", [None, {}, {"audit.kind": "step"}])
@pytest.mark.parametrize("peers", [[], ["10.0.0.0/8"], [{"secret": "a secret between services"}]])
def test_nothing_else_is_named_and_nothing_without_a_shared_secret(
    attributes: dict[str, str] | None, peers: list[Any]
) -> None:
    process = {"audit.kind": "process"}
    sampler = AuditSampler(DEFAULT_ON)

    with override_settings(OTEL_AUDIT={"TRUSTED_PEERS": peers}):
        results = [sampler.should_sample(None, 7, "x", SpanKind.SERVER, attributes)]
        if not any(isinstance(peer, dict) for peer in peers):
            results.append(sampler.should_sample(None, 7, "x", None, process))

    assert all(not result.trace_state and "audit.record.id" not in result.attributes for result in results)


def test_default_is_opentelemetrys_own() -> None:
    assert AuditSampler().get_description() == f"AuditSampler{{{DEFAULT_ON.get_description()}}}"
    assert audit_sampler().get_description() == AuditSampler().get_description()


def test_argument_of_the_environment_is_the_ratio_to_forward() -> None:
    assert "0.25" in audit_sampler("0.25").get_description()
    assert audit_sampler("").get_description() == AuditSampler().get_description()
