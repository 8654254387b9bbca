"""Fixtures of the fault tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_django

from otel_audit_exporters import alarm
from tests.faults.mortal import Mortal
from tests.fresh_databases import fresh_databases


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


@pytest.fixture(scope="session")
def site_template(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: pytest_django.DjangoDbBlocker) -> Path:
    """Return the directory of a site with its tables, to be copied."""
    directory = tmp_path_factory.mktemp("mortal")
    with fresh_databases(["default", "audit"], directory, django_db_blocker) as databases:
        Mortal(directory, databases).create()
    return directory


@pytest.fixture
def site(tmp_path: Path, site_template: Path, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Mortal]:
    """Return a site with an empty audit trail."""
    directory = tmp_path / "site"
    directory.mkdir()
    with fresh_databases(["default", "audit"], directory, django_db_blocker) as databases:
        site = Mortal(directory, databases)
        site.create(site_template)
        yield site
