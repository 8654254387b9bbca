"""Reports for people: what the audit trail holds, as a document that can be filed."""

from __future__ import annotations

from otel_audit.reports.pdf import write_process, write_report

__all__ = ["write_process", "write_report"]
