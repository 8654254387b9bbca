"""Where emitters hand their records over; `otel_audit.apps` puts the exporter behind it.

It keeps the emitters free of the exporter: they know this protocol alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Delivery", "delivery", "wire"]


class Delivery(Protocol):
    """What the exporter offers to emitters. No method raises into the host's code."""

    def start(self) -> None:
        """Make sure that this process has its background threads; cheap when it has."""

    def attach(self) -> Any:
        """Return the tracer provider of the site with our processor on it, claiming the global one if need be."""

    def private_tracer(self) -> Any:
        """Return a tracer whose spans are always recorded; they are never made current."""

    def request(self, span: Any, record_id: str, facts: Mapping[str, Any], events: list[dict[str, Any]]) -> None:
        """Take a finished request span with its facts and its sign-ins; spooled or written when this returns."""

    def event(self, kind: str, record_id: str, ids: Mapping[str, str | None], facts: Mapping[str, Any]) -> None:
        """Take one ``"login"`` or ``"registration"`` that stands on its own."""

    def span(self, span: Any, note: Any) -> None:
        """Take a finished process or step span that the site's provider did not record."""

    def pump(self) -> None:
        """Deliver every span that has ended so far; durable when this returns."""

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
