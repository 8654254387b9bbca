"""Fixtures of the fault tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_audit_exporters import alarm


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the path of a spool directory that is not there yet."""
    return tmp_path / "spool"


@pytest.fixture
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk where hundreds of directories are drained and no power is lost."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


@pytest.fixture(autouse=True)
def _fresh_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm, "_raised_at", {})
    alarm._counts.clear()
