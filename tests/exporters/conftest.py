"""Fixtures of the exporter's tests."""

from __future__ import annotations

import pytest

from otel_audit_exporters import alarm


@pytest.fixture(autouse=True)
def _fresh_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alarm of an earlier test does not silence the one of this test."""
    monkeypatch.setattr(alarm, "_raised_at", {})
    alarm._counts.clear()
