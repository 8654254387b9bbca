"""The audit trail in Django's admin: everything can be read and searched, nothing can be changed by anybody."""

from __future__ import annotations

from otel_audit.admin.events import LoginAdmin, RequestAdmin
from otel_audit.admin.processes import ProcessAdmin, RegistrationAdmin, StepAdmin

__all__ = ["LoginAdmin", "ProcessAdmin", "RegistrationAdmin", "RequestAdmin", "StepAdmin"]
