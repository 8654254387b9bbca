"""Sign-ins and sign-outs: each hook turns what it sees into one call of `otel_audit.integrations.signin.record`."""

from __future__ import annotations

__all__ = ["connect"]


def connect() -> None:
    """Connect every hook whose package is there; called once by the app's configuration."""
    from otel_audit.integrations import sessions

    sessions.connect()
