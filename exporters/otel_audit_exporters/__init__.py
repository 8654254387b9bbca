"""Maps OpenTelemetry spans into the audit models and keeps them safe on the way.

Public names are imported when they are used: importing this package loads no Django models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_audit_exporters.exporter import DatabaseSpanExporter
    from otel_audit_exporters.processor import AuditSpanProcessor
    from otel_audit_exporters.redacting import RedactingSpanExporter
    from otel_audit_exporters.sampler import AuditSampler

__all__ = ["AuditSampler", "AuditSpanProcessor", "DatabaseSpanExporter", "RedactingSpanExporter"]

_HOMES = {
    "AuditSampler": "sampler",
    "AuditSpanProcessor": "processor",
    "DatabaseSpanExporter": "exporter",
    "RedactingSpanExporter": "redacting",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
