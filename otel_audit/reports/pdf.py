"""The audit report as PDF."""

from __future__ import annotations

from datetime import datetime
from typing import BinaryIO

__all__ = ["write_report"]


def write_report(
    target: BinaryIO,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    generated_by: str,
    filters: str = "",
) -> int:
    """Write the report to ``target``.

    Args:
        target: binary file that the PDF is written to.
        since: aware; records that began before it are left out.
        until: aware; records that began at or after it are left out.
        generated_by: who asked for the report, as it shall stand on the cover.
        filters: what else narrows the report, as it shall stand on the cover.

    Returns:
        The number of pages.
    """
    raise NotImplementedError
