"""Fixtures of the whole suite."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator

import hypothesis
import pytest
from asgiref.sync import SyncToAsync
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections
from opentelemetry import trace

from otel_audit import edges

# How long an example takes says more about the machine than about the code; tests of speed measure it themselves.
# A gate judges a change by the same examples each time; everybody else's runs look for new ones.
hypothesis.settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _no_hidden_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guard at an edge would log in production rises in our own tests."""
    monkeypatch.setattr(edges, "reraise", True)


@pytest.fixture(autouse=True)
def _no_connection_left_by_event_loops(request: pytest.FixtureRequest) -> Iterator[None]:
    """A database in use cannot be dropped, and the thread in which asgiref runs queries outlives the test."""
    yield
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture
def open_connections() -> Iterator[None]:
    """A request ends with the closing of connections, which would end a test's transaction."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def fresh_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which nobody has set a tracer provider, and we have attached to none."""
    from otel_audit.provider import _state

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", type(trace._TRACER_PROVIDER_SET_ONCE)())
    for name in ("site", "site_tracer", "private"):
        monkeypatch.setattr(_state, name, None)
    yield
    shutdown = getattr(trace._TRACER_PROVIDER, "shutdown", None)
    if shutdown is not None:
        shutdown()


@pytest.fixture
def fresh_pipeline() -> Iterator[None]:
    """A process that has delivered nothing yet; its threads have ended when the test has."""
    from otel_audit_exporters.pipeline import pipeline

    pipeline._reset()
    yield
    pumper = pipeline._pumper
    if pipeline._draining.sinks is not None:
        pipeline._draining.sinks.stop(5.0)
    pipeline._direct.close()
    if pipeline._spool is not None:
        pipeline._spool.close()
    pipeline._reset()
    pumper.end(5.0)
