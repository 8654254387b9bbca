"""Where emitters hand their records over; `otel_audit.apps` puts the exporter behind it.

It keeps the emitters free of the exporter: they know this protocol alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from opentelemetry.trace import SpanContext

from otel_audit.scope import Note

__all__ = ["Delivery", "Receipt", "delivery", "wire"]


class Receipt(Protocol):
    """What was delivered survives the death of the process; this says when it survives a power loss as well."""

    def wait(self) -> bool:
        """Wait for it, where ``FSYNC`` asks for it; False when the disk refused it."""

    async def wait_async(self) -> bool:
        """Wait for it without holding up the event loop."""


class Delivery(Protocol):
    """What the exporter offers to emitters. No method raises into the host's code."""

    def start(self) -> None:
        """Make sure that this process has its background threads; cheap when it has."""

    def listening(self) -> bool:
        """Whether anybody gets the records: not while recording is off, nor in tests outside `capture`."""

    def intend(
        self, record_id: str, started_ns: int, facts: Mapping[str, Any], context: SpanContext | None
    ) -> Receipt | None:
        """Store that a request begins; None when that failed. `request` or `withdraw` must follow."""

    def withdraw(self, record_id: str) -> None:
        """Let an intent vanish: its request has ended and leaves no record."""

    def refused(self) -> None:
        """Count a request that was refused as its intent could not be stored."""

    def excluded(self, by: str) -> None:
        """Count a request that leaves no record, by what of the policy excludes it."""

    def request(
        self,
        span: Any,
        record_id: str,
        facts: Mapping[str, Any],
        events: Sequence[tuple[str, Mapping[str, Any]]],
    ) -> Receipt:
        """Take a finished request span with its facts and its sign-ins as (record id, facts)."""

    def event(
        self,
        kind: str,
        record_id: str,
        ids: Mapping[str, str | None],
        facts: Mapping[str, Any],
        note: Note | None,
        context: SpanContext | None,
    ) -> None:
        """Take one ``"login"`` or ``"registration"`` of the span with ``context``, inside what ``note`` says."""

    def pump(self) -> Receipt:
        """Deliver every span that has ended so far."""

    def flush(self, timeout: float) -> int:
        """Wait until all is stored, for ``timeout`` seconds at most; return the number of records left."""

    def status(self) -> dict[str, Any]:
        """Return what was captured, stored, is pending, quarantined and lost."""


_wired: list[Delivery] = []


def wire(target: Delivery) -> None:
    """Put ``target`` behind `delivery`; called once by the app's configuration."""
    _wired[:] = [target]


def delivery() -> Delivery:
    """Return the delivery behind this site.

    Raises:
        RuntimeError: ``otel_audit`` is not in ``INSTALLED_APPS`` or Django is not set up.
    """
    if not _wired:
        raise RuntimeError(
            "otel_audit is not ready: add 'otel_audit' to INSTALLED_APPS and call django.setup() before you record."
        )
    return _wired[0]
