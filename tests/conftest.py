"""Fixtures of the whole suite."""

from __future__ import annotations

import pytest

from otel_audit import edges


@pytest.fixture(autouse=True)
def _no_hidden_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guard at an edge would log in production rises in our own tests."""
    monkeypatch.setattr(edges, "reraise", True)
