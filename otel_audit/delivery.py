"""Where emitters hand their records over; `otel_audit.apps` puts the exporter behind it.

It keeps the emitters free of the exporter: they know this protocol alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from opentelemetry.trace import SpanContext

from otel_audit.scope import Note

__all__ = ["Delivery", "delivery", "wire"]


class Delivery(Protocol):
    """What the exporter offers to emitters. No method raises into the host's code."""

    def start(self) -> None:
        """Make sure that this process has its background threads; cheap when it has."""

    def listening(self) -> bool:
        """Whether anybody gets the records: not so in tests outside `capture`, where a site must not notice us."""

    def request(
        self,
        span: Any,
        record_id: str,
        facts: Mapping[str, Any],
        events: Sequence[tuple[str, Mapping[str, Any]]],
    ) -> None:
        """Take a finished request span with its facts and its sign-ins as (record id, facts); durable on return."""

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

    def pump(self) -> None:
        """Deliver every span that has ended so far; durable on return."""

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
