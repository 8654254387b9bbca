"""Fixtures of the receiver's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_audit.receiver import exchange, tokens
from otel_audit_exporters import alarm


@pytest.fixture(autouse=True)
def _connections_stay_open(open_connections: None) -> None:
    """No request of a test ends its transaction, or asks for a database that the test has not."""


@pytest.fixture(autouse=True)
def _fresh_receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has received nothing, knows no token and has raised no alarm yet."""
    monkeypatch.setattr(alarm, "_raised_at", {})
    alarm._counts.clear()
    monkeypatch.setattr(exchange, "_known", exchange._Known())
    tokens.senders.__init__()  # type: ignore[misc]
    yield
    tokens.senders.__init__()  # type: ignore[misc]
