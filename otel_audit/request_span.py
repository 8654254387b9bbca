"""What the SERVER span of a request says, and which trace it continues."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_audit import attributes as keys
from otel_audit.edges import caught
from otel_audit.request_scope import RequestScope
from otel_audit.span_facts import standard_attributes

__all__ = ["conclude_span", "first_attributes", "inbound_context"]


class _MetaGetter(Getter[Mapping[str, Any]]):
    """Reads propagation headers from ``request.META``."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        """Return the header ``key``."""
        value = carrier.get(f"HTTP_{key.upper().replace('-', '_')}")
        return None if value is None else [value]

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        """Return the names of all headers."""
        return [key[5:].lower().replace("_", "-") for key in carrier if key.startswith("HTTP_")]


_META = _MetaGetter()
#: What the propagators read that are OpenTelemetry's default.
_W3C_HEADERS: Final = ("HTTP_TRACEPARENT", "HTTP_BAGGAGE")
_W3C_PROPAGATORS: Final = (TraceContextTextMapPropagator, W3CBaggagePropagator)


def inbound_context(meta: Mapping[str, Any]) -> otel_context.Context | None:
    """Return the context that the client sent; None where that cannot be read, whoever's propagator reads it."""
    try:
        propagator = propagate.get_global_textmap()
        if _W3C_HEADERS[0] not in meta and _W3C_HEADERS[1] not in meta and _reads_w3c_alone(propagator):
            return otel_context.Context()  # what they would return; most requests come from no traced client
        return propagator.extract(meta, getter=_META)
    except Exception:
        caught("guard.inbound")
    return None


@lru_cache(maxsize=4)
def _reads_w3c_alone(propagator: TextMapPropagator) -> bool:
    parts = getattr(propagator, "_propagators", ())
    return type(propagator) is CompositePropagator and all(type(part) in _W3C_PROPAGATORS for part in parts)


def first_attributes(scope: RequestScope) -> dict[str, Any]:
    """Return what is known when the span starts."""
    attributes = {
        keys.HTTP_REQUEST_METHOD: scope.method,
        keys.URL_PATH: scope.path,
        keys.URL_SCHEME: scope.scheme,
        keys.AUDIT_RECORD_ID: scope.record_id,
    }
    if scope.user_agent:
        attributes[keys.USER_AGENT_ORIGINAL] = scope.user_agent
    return attributes


def conclude_span(span: Any, scope: RequestScope, status: int | None, *, is_seen: bool = False) -> None:
    """End ``span`` with what is known at the end.

    Args:
        span: the request's.
        scope: the request.
        status: what the client got; None where it got no response.
        is_seen: whether anybody beside us gets the span.
    """
    attributes: dict[str, Any] = standard_attributes(scope) if is_seen else {}
    if scope.route:
        span.update_name(f"{scope.method} {scope.route}")
        attributes[keys.HTTP_ROUTE] = scope.route
    if status is not None:
        attributes[keys.HTTP_RESPONSE_STATUS_CODE] = status
    if scope.error is not None:
        attributes[keys.ERROR_TYPE] = type(scope.error).__qualname__
    elif status is not None and status >= 500:
        attributes[keys.ERROR_TYPE] = str(status)
    span.set_attributes(attributes)
    if status is None or status >= 500:
        span.set_status(Status(StatusCode.ERROR))
    span.end()
