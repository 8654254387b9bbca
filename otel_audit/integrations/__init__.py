"""Sign-ins and sign-outs: each hook turns what it sees into one call of `otel_audit.integrations.signin.record`."""

from __future__ import annotations

__all__ = ["connect"]


def connect() -> None:
    """Connect every hook; called once by the app's configuration.

    A hook of an optional package waits until the site imports it, and never imports it itself.
    """
    from otel_audit.integrations import (
        dj_rest_auth,
        errors,
        impersonation,
        lockouts,
        passwords,
        rest_framework,
        sessions,
        simplejwt,
    )

    for hook in (errors, impersonation, lockouts, sessions, passwords, rest_framework, simplejwt, dj_rest_auth):
        hook.connect()
