"""Exceptions that became a response before any middleware saw them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from django.core.signals import got_request_exception

from otel_audit.edges import edge
from otel_audit.integrations.attempts import current_attempt
from otel_audit.integrations.imports import when_imported, wrap
from otel_audit.request_scope import scope_of

__all__ = ["connect"]


def connect() -> None:
    """Listen to Django's signal, and wrap the exception handling of REST framework's views."""
    got_request_exception.connect(_request_exception, dispatch_uid="otel_audit.request_exception")
    when_imported("rest_framework.views", lambda module: wrap(module.APIView, "handle_exception", _handled))


def _request_exception(sender: Any, request: Any = None, **kwargs: Any) -> None:
    with edge("signals.got_request_exception"):
        if (scope := scope_of(request)) is not None:
            scope.failed(sys.exc_info()[1])


def _handled(handle: Callable[..., Any], view: Any, exc: Exception) -> Any:
    """Note an exception that REST framework answers itself: its response tells nothing of it."""
    with edge("integrations.handle_exception"):
        if (scope := scope_of(getattr(view, "request", None))) is not None:
            scope.failed(exc)
        if (attempt := current_attempt.get()) is not None:
            attempt.error = exc
    return handle(view, exc)
