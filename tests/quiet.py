"""What a test must not log: an error of ours, or of OpenTelemetry about how we use it."""

from __future__ import annotations

import logging

import pytest


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the errors that were logged during the test's call."""
    said = [found for found in caplog.get_records("call") if found.levelno >= logging.ERROR]
    ours = [found for found in said if found.name.startswith(("otel_audit", "opentelemetry"))]
    return [found.getMessage() for found in ours if not _is_late(found)]


def _is_late(found: logging.LogRecord) -> bool:
    """Whether garbage collection ended the span of a cancelled request, which the instrumentation leaves to it."""
    error = found.exc_info[1] if found.exc_info else None
    return error is not None and isinstance(error.__context__, GeneratorExit)
