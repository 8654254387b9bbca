"""Sends the audit models to ``OTEL_AUDIT["DATABASE"]`` and keeps all else out of an audit database of its own."""

from __future__ import annotations

from typing import Any

from otel_audit.conf import conf

__all__ = ["AuditRouter"]

APP_LABELS = frozenset({"otel_audit", "otel_audit_receiver"})


class AuditRouter:
    """Database router for ``DATABASE_ROUTERS``.

    On the audit database, when it is not ``"default"``, only the audit app is migrated. On every other alias
    this router has no opinion on other apps.
    """

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Read audit models from the audit database."""
        return conf.database if model._meta.app_label in APP_LABELS else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """Write audit models to the audit database."""
        return conf.database if model._meta.app_label in APP_LABELS else None

    def allow_relation(self, obj1: Any, obj2: Any, **hints: Any) -> bool | None:
        """Allow relations among audit models."""
        if obj1._meta.app_label in APP_LABELS and obj2._meta.app_label in APP_LABELS:
            return True
        return None

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        """Migrate audit models on the audit database only, and nothing else on one of its own."""
        if app_label in APP_LABELS:
            return db == conf.database
        if db == conf.database and db != "default":
            return False
        return None
