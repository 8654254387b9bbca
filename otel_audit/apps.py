"""The one place that wires emitters, exporter and checks; starts no thread and claims no provider."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

__all__ = ["OTelAuditConfig", "install_guard", "is_audit_middleware"]


class OTelAuditConfig(AppConfig):
    """Configuration of the audit trail app."""

    name = "otel_audit"
    verbose_name = _("Audit trail")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Wire the exporter behind the emitters, put the guard in front, connect the hooks."""
        from otel_audit import checks, delivery, integrations, provider  # noqa: F401  # checks register on import
        from otel_audit_exporters.otlp import forwarding_processors
        from otel_audit_exporters.pipeline import pipeline
        from otel_audit_exporters.processor import AuditSpanProcessor
        from otel_audit_exporters.sampler import AuditSampler

        delivery.wire(pipeline)
        provider.wire(
            provider.Parts(
                processor=AuditSpanProcessor,
                sampler=AuditSampler,
                forwarding=forwarding_processors,
                resource=pipeline.set_resource,
            )
        )
        integrations.connect()
        install_guard()
        setting_changed.connect(_middleware_changed, dispatch_uid="otel_audit.guard")


def install_guard() -> None:
    """Put the guard at index 0 of ``MIDDLEWARE`` when the user's entry is there: above OpenTelemetry's own."""
    from otel_audit.middleware import GUARD_PATH

    current = list(settings.MIDDLEWARE)
    if GUARD_PATH not in current and any(is_audit_middleware(path) for path in current):
        settings.MIDDLEWARE = [GUARD_PATH, *current]


def is_audit_middleware(path: str) -> bool:
    """Whether an entry of ``MIDDLEWARE`` is ours, its alias or a class derived from it."""
    from otel_audit.middleware import AuditMiddleware

    try:
        found = import_string(path)
    except Exception:  # whatever it raises, Django itself reports it when the handler loads
        return False
    return isinstance(found, type) and issubclass(found, AuditMiddleware)


def _middleware_changed(*, setting: str, **kwargs: Any) -> None:
    """A site's test changed ``MIDDLEWARE``: the guard belongs in front of that one too."""
    if setting == "MIDDLEWARE":
        install_guard()
