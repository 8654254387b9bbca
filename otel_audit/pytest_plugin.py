"""The pytest fixture ``audit_records``, found by its entry point. Imports nothing of Django until it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from otel_audit.testing import AuditRecords

__all__ = ["audit_records"]


@pytest.fixture
def audit_records() -> Iterator[AuditRecords]:
    """What the test recorded; see `otel_audit.testing.AuditRecords`."""
    from otel_audit.testing import capture

    with capture() as records:
        yield records
