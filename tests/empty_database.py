"""An audit database that has no tables, or is not there, for tests of what is said then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

__all__ = ["no_tables"]


@pytest.fixture
def no_tables(tmp_path: Path, django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Point the alias ``audit`` to an empty SQLite file, for every thread; the dict's changes count too."""
    target = {
        **connections.settings["audit"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "empty.sqlite3"),
        "OPTIONS": {},
    }
    monkeypatch.setitem(connections.settings, "audit", target)
    before = connections["audit"]
    del connections["audit"]
    with django_db_blocker.unblock():
        yield target
        connections["audit"].close()
    connections["audit"] = before
