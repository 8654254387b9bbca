"""The router under the names that ``drf-audit-trail`` users know."""

from __future__ import annotations

from otel_audit.routers import AuditRouter

__all__ = ["DRFAuditTrail", "OTelAudit"]

OTelAudit = AuditRouter
DRFAuditTrail = AuditRouter
