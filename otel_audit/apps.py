"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

__all__ = ["OTelAuditConfig"]


class OTelAuditConfig(AppConfig):
    """Audit trail of the site's OpenTelemetry trace."""

    name = "otel_audit"
    verbose_name = _("Audit trail")
    default_auto_field = "django.db.models.BigAutoField"
