"""The app of the receiver, apart from `otel_audit`: who takes no spans of other services has no table of tokens."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

__all__ = ["ReceiverConfig"]


class ReceiverConfig(AppConfig):
    """Add ``"otel_audit.receiver"`` to ``INSTALLED_APPS``."""

    name = "otel_audit.receiver"
    label = "otel_audit_receiver"
    verbose_name = _("Receiver of spans")
    default_auto_field = "django.db.models.BigAutoField"
