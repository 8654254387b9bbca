"""Finds the site's tracer provider, or claims the global one, and puts our processor and sampler on it.

Not in ``ready()``: a provider claimed there makes a later one of the site (gunicorn's ``post_fork``) fail silently.
The first request, helper call or management command asks for it. Requests, sign-ins and our helpers never depend on a
foreign sampler or on ``OTEL_SDK_DISABLED``: where the site's provider does not record, a private span is used, which
is never made current, so the site's own sampling stays as it is.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import Tracer

from otel_audit.conf import conf
from otel_audit.delivery import delivery
from otel_audit.edges import edge, errors
from otel_audit.exceptions import ConfigurationError

__all__ = ["Parts", "lock", "private_tracer", "request_takers", "site_tracer", "unwatched_provider", "wire"]

logger = logging.getLogger("otel_audit")

_SCOPE_NAME = "otel_audit"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the exporter contributes to a provider.

    ``processor`` and ``sampler`` make ours, ``forwarding`` gives the span processors that send to collectors, and
    ``resource`` is told the provider's resource, from which the service's name comes.
    """

    processor: Callable[[], SpanProcessor]
    sampler: Callable[[Sampler], Sampler]
    forwarding: Callable[[TracerProvider], Iterable[SpanProcessor]]
    resource: Callable[[Resource], None]


class _State:
    """What this process has attached to; made anew by tests."""

    parts: Parts | None = None
    site: trace.TracerProvider | None = None
    site_tracer: Tracer | None = None
    processor: type[SpanProcessor] | None = None
    private: Tracer | None = None


_state = _State()
#: Held by the thread that attaches to a provider.
lock: Final = threading.RLock()


def wire(parts: Parts) -> None:
    """Give this module the exporter's parts; called once by the app's configuration."""
    _state.parts = parts


def site_tracer() -> Tracer:
    """Return a tracer of the site's provider, attached to on the first call and again after the site changed it."""
    current = trace.get_tracer_provider()
    if isinstance(current, trace.ProxyTracerProvider) and not delivery().listening():
        return trace.NoOpTracer()  # in a site's tests the global provider is left for a test to set
    if current is not _state.site or _state.site_tracer is None:
        with lock, edge("provider.attach"):
            current = _attached(current)
            _state.site = current
            _state.site_tracer = current.get_tracer(_SCOPE_NAME)
    return _state.site_tracer or trace.NoOpTracer()


def unwatched_provider() -> TracerProvider | None:
    """Return the provider that `site_tracer` found where nobody looks at the living span of a request now, else None.

    Our own processors do not: one takes the record from the guard, and what forwards wants ended spans or none.
    """
    site = _state.site
    if type(site) is not TracerProvider or type(_state.site_tracer) is not SdkTracer:
        return None
    processors = _processors(site)
    ours = _state.processor
    if not processors or type(processors[0]) is not ours:
        return None
    if len(processors) > 1 and not all(hasattr(one, "wants_requests") for one in processors[1:]):
        return None
    return site


def request_takers(provider: TracerProvider) -> Sequence[SpanProcessor]:
    """Return the processors of an unwatched provider that want the ended span of a request."""
    return [one for one in _processors(provider)[1:] if getattr(one, "wants_requests", False)]


def private_tracer() -> Tracer:
    """Return a tracer whose spans are always recorded, whatever the environment says."""
    if _state.private is None:
        with lock:
            if _state.private is not None:
                return _state.private
            provider = TracerProvider(sampler=ALWAYS_ON, resource=_resource(), shutdown_on_exit=False)
            provider._disabled = (
                False  # OTEL_SDK_DISABLED makes every provider give no-op tracers; there is no other way
            )
            if _state.parts is not None:
                provider.add_span_processor(_state.parts.processor())
            _state.private = provider.get_tracer(_SCOPE_NAME)
    return _state.private


def _attached(provider: trace.TracerProvider) -> trace.TracerProvider:
    parts = _state.parts
    if parts is None:
        return provider
    if isinstance(provider, trace.ProxyTracerProvider):
        trace.set_tracer_provider(TracerProvider(resource=_resource()))
        provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return provider  # a provider that is not the SDK's: private spans serve
    parts.resource(provider.resource)
    ours = parts.processor()
    _state.processor = type(ours)
    if not any(isinstance(one, type(ours)) for one in _processors(provider)):
        provider.add_span_processor(ours)
    sampler = parts.sampler(provider.sampler)
    if not isinstance(provider.sampler, type(sampler)):
        provider.sampler = sampler
        for tracer in _tracers(provider):  # made before, each holds the sampler of its day
            tracer.sampler = sampler
    with edge("provider.forwarding"):  # a collector that cannot be set up is in nobody's way
        try:
            for processor in parts.forwarding(provider):
                provider.add_span_processor(processor)
        except ConfigurationError as problem:
            errors["provider.forwarding"] += 1
            logger.error(  # noqa: TRY400  # its sentence says what to do, a traceback nothing
                "otel_audit forwards no spans: %s", conf.redactor.value(str(problem))
            )
    return provider


def _processors(provider: TracerProvider) -> tuple[Any, ...]:
    return tuple(getattr(provider._active_span_processor, "_span_processors", ()))


def _tracers(provider: TracerProvider) -> list[Any]:
    return list(getattr(provider, "_tracers", {}).values())


def _resource() -> Resource:
    """Return the resource of a provider that we make: the environment's, named by ``SERVICE_NAME`` if that is set."""
    name = conf.service_name
    if name is None and "OTEL_SERVICE_NAME" in os.environ:
        name = os.environ["OTEL_SERVICE_NAME"]
    return Resource.create({SERVICE_NAME: name} if name else {})
