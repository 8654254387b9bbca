"""Processes inside a request and outside any, on a provider of the site's own or on a private one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBasedTraceIdRatio

from otel_audit.testing import AuditRecords, capture
from tests.quiet import errors


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No error is logged, unless the test looks for it and clears it."""
    yield
    assert errors(caplog) == []


@pytest.fixture
def records(fresh_provider: None) -> Iterator[AuditRecords]:
    """What was recorded."""
    with capture() as found:
        yield found


def _claimed() -> None:
    """Nobody has set a provider: we claim it."""


def _site() -> None:
    """The site has set up OpenTelemetry."""
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))


def _always_off() -> None:
    """The site samples nothing."""
    trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))


def _ratio() -> None:
    """The site samples nothing that a caller did not sample."""
    trace.set_tracer_provider(TracerProvider(sampler=ParentBasedTraceIdRatio(0.0), shutdown_on_exit=False))


def _private() -> None:
    """The site's provider is not the SDK's."""
    trace.set_tracer_provider(trace.NoOpTracerProvider())


PROVIDERS: list[Callable[[], None]] = [_claimed, _site, _always_off, _ratio, _private]


@pytest.fixture(params=PROVIDERS, ids=[one.__name__.strip("_") for one in PROVIDERS])
def provider(request: pytest.FixtureRequest, fresh_provider: None) -> str:
    """Which provider the site has."""
    request.param()
    return str(request.param.__name__).strip("_")


def told(records: AuditRecords) -> dict[str, Any]:
    """Return what the rows say, without what differs from run to run."""
    order = {row.id: number for number, row in enumerate(sorted(records.steps, key=lambda row: row.order or 0))}
    return {
        "processes": [
            (row.name, row.description, row.outcome, row.actor_name, row.extra_informations, row.request_id)
            for row in records.processes
        ],
        "steps": [
            (row.order, row.name, row.description, row.total_registrations, row.outcome, row.actor_name)
            for row in sorted(records.steps, key=lambda row: row.order or 0)
        ],
        "registrations": [
            (order[row.step_id], row.name, row.success, row.description, row.outcome, row.extra_informations)
            for row in sorted(records.registrations, key=lambda row: row.id)
        ],
    }
