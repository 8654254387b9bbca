"""The same cases through WSGI and ASGI, over every source of the request's span."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_audit.middleware import GUARD_PATH
from otel_audit.testing import AuditRecords, capture
from tests.quiet import errors

from .doors import ASGIDoor, Door, WSGIDoor

URLS = "tests.requests.urls"


@pytest.fixture(autouse=True)
def _connections_stay_open(open_connections: None) -> None:
    """No request of a test ends its transaction."""


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No error is logged, unless the test looks for it and clears it."""
    yield
    assert errors(caplog) == []


@pytest.fixture(params=[WSGIDoor, ASGIDoor], ids=["wsgi", "asgi"])
def door(request: pytest.FixtureRequest) -> Door:
    """The way in."""
    found: Door = request.param()
    return found


@pytest.fixture
def forwarded(fresh_provider: None) -> InMemorySpanExporter:
    """What a site that has set up OpenTelemetry exports itself."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def otel_django(fresh_provider: None, settings: Any) -> Iterator[None]:
    """opentelemetry-instrumentation-django in front of the site, and our guard in front of that."""
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    settings.MIDDLEWARE = list(settings.MIDDLEWARE)  # it inserts in place
    instrumentor = DjangoInstrumentor()
    instrumentor.instrument()
    # As ``opentelemetry-instrument`` does it, before our app is ready: the change of the setting stands for that.
    settings.MIDDLEWARE = [path for path in settings.MIDDLEWARE if path != GUARD_PATH]
    assert settings.MIDDLEWARE[0] == GUARD_PATH
    yield
    instrumentor.uninstrument()


@pytest.fixture
def stable_conventions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The opt-in to the stable HTTP semantic conventions."""
    from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability as Stability

    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    monkeypatch.setattr(Stability, "_initialized", False)
    yield
    monkeypatch.delenv("OTEL_SEMCONV_STABILITY_OPT_IN")
    Stability._initialized = False
    Stability._initialize()


def _lean(request: pytest.FixtureRequest) -> None:
    """Our own span, on a provider that we claim."""


def _otel(request: pytest.FixtureRequest) -> None:
    """The span of opentelemetry-instrumentation-django, on a provider that we claim."""
    request.getfixturevalue("otel_django")


def _otel_stable(request: pytest.FixtureRequest) -> None:
    """The same with the stable conventions."""
    request.getfixturevalue("stable_conventions")
    request.getfixturevalue("otel_django")


def _always_off(request: pytest.FixtureRequest) -> None:
    """A site whose sampler drops everything."""
    trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))


def _private(request: pytest.FixtureRequest) -> None:
    """A site whose provider is not the SDK's: a private span serves."""
    trace.set_tracer_provider(trace.NoOpTracerProvider())


SOURCES: list[Callable[[pytest.FixtureRequest], None]] = [_otel, _otel_stable, _lean, _always_off, _private]


@pytest.fixture(params=SOURCES, ids=[source.__name__.strip("_") for source in SOURCES])
def span_source(request: pytest.FixtureRequest, fresh_provider: None) -> str:
    """Where the request's span comes from."""
    request.param(request)
    return str(request.param.__name__).strip("_")


@pytest.fixture
def records(fresh_provider: None) -> Iterator[AuditRecords]:
    """What was recorded."""
    with capture() as found:
        yield found


@pytest.fixture
def user(db: None) -> User:
    """A user who can sign in."""
    return User.objects.create_user("ada", "ada@example.com", "correct horse")


@pytest.fixture
def session(user: User) -> dict[str, str]:
    """The headers of somebody who is signed in."""
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.create()
    return {"Cookie": f"sessionid={store.session_key}"}
