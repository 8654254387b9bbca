"""The OpenTelemetry trace of a Django / DRF site is its audit trail.

Public names are imported when they are used: ``import otel_audit`` loads no Django models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_audit.carriers import carrier, resume
    from otel_audit.processes import actor, process, step
    from otel_audit.site import annotate, flush, status

__all__ = ["actor", "annotate", "carrier", "flush", "process", "resume", "status", "step"]
__version__ = "0.1.0"

_HOMES = {
    "actor": "otel_audit.processes",
    "carrier": "otel_audit.carriers",
    "process": "otel_audit.processes",
    "resume": "otel_audit.carriers",
    "step": "otel_audit.processes",
    "annotate": "otel_audit.site",
    "flush": "otel_audit.site",
    "status": "otel_audit.site",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
