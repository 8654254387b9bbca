"""What a site's code may ask of its audit trail beside recording: more data on a request, flushing, the figures."""

from __future__ import annotations

from typing import Any

from otel_audit.delivery import delivery
from otel_audit.edges import edge
from otel_audit.request_scope import scope_of

__all__ = ["annotate", "flush", "status"]


def annotate(request: Any, **extra: Any) -> None:
    """Add ``extra`` to the ``extra_informations`` of the request's row.

    Args:
        request: the Django or DRF request that the view got.
        extra: facts; redacted, and kept as text where they are not JSON. Later calls win.
    """
    with edge("annotate"):
        scope = scope_of(request)
        if scope is not None:
            scope.extra.update(extra)


def flush(timeout: float = 30.0) -> int:
    """Wait until every record so far is in the audit database.

    Args:
        timeout: seconds to wait at most.

    Returns:
        How many records are left; 0 means that all are stored.

    Raises:
        SpoolError: the spool cannot be read, so that nobody knows how many are left. No record is lost by that.
    """
    return delivery().flush(timeout)


def status() -> dict[str, Any]:
    """Return what was captured, stored, is pending, quarantined and lost, as far as this machine knows."""
    return delivery().status()
