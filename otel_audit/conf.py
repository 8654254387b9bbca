"""The only reader of settings: one property per key of ``OTEL_AUDIT``, read when used, one default each.

The names of ``drf-audit-trail`` are read where the new key is absent; `otel_audit.checks` tells the user the new
name. Nothing is cached but what is derived from an unchanged value, so ``override_settings`` works.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from otel_audit.policy import Policy, Rule
from otel_audit.redaction import Redactor

__all__ = ["DEFAULTS", "LEGACY_NAMES", "AuditSettings", "conf", "in_test_environment"]

DEFAULTS: Final[dict[str, Any]] = {
    "ENABLED": True,
    "DATABASE": "default",
    "SERVICE_NAME": None,
    "DELIVERY": None,  # "spool", and "memory" in Django's test environment
    "SPOOL_DIR": None,
    "SPOOL_MAX_BYTES": 1024 * 1024 * 1024,
    "DRAIN": "thread",
    "POLICY": None,
    "REDACT": (),
    "RESOLVE_ACTOR": True,
    "TRUSTED_PROXIES": (),
    "AUTH_URLS": (),
    "AUTH_FAILED_STATUS_CODES": (401,),
    "USER_PK_NAME": "pk",
    "OTLP": None,
    "TRACE_URL": None,
}

#: New key → the ancestor's names for it, the documented spelling first.
LEGACY_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "DATABASE": ("DRF_AUDIT_TRAIL_DATABASE_ALIAS",),
    "AUTH_URLS": ("DRF_AUDIT_TRAIL_AUTH_URL",),
    "AUTH_FAILED_STATUS_CODES": (
        "DRF_AUDIT_TRAIL_AUTH_STATUS_CODE_FAILED",
        "DRF_AUDIT_TRAIL_AUTH_STATUS_CODE_FALIED",
    ),
    "USER_PK_NAME": ("DRF_AUDIT_TRAIL_USER_PK_NAME",),
}

#: The ancestor's URL settings that became rules of ``POLICY``.
LEGACY_REQUEST_URLS: Final = "DRF_AUDIT_TRAIL_REQUEST_AUDIT_URLS"
LEGACY_NO_REQUEST_BODY: Final = "DRF_AUDIT_TRAIL_NOTSAVE_REQUEST_BODY_URLS"
LEGACY_NO_RESPONSE_BODY: Final = "DRF_AUDIT_TRAIL_NOTSAVE_RESPONSE_BODY_URLS"


class AuditSettings:
    """Typed view of ``settings.OTEL_AUDIT``; every property is read when it is used."""

    def raw(self, key: str) -> Any:
        """Return what the user wrote for ``key``, else the ancestor's setting, else the default."""
        configured = getattr(settings, "OTEL_AUDIT", None)
        if isinstance(configured, Mapping) and key in configured:
            return configured[key]
        for name in LEGACY_NAMES.get(key, ()):
            if hasattr(settings, name):
                return getattr(settings, name)
        return DEFAULTS[key]

    @property
    def enabled(self) -> bool:
        """Whether anything is recorded at all."""
        return bool(self.raw("ENABLED"))

    @property
    def database(self) -> str:
        """Alias of the audit database."""
        return str(self.raw("DATABASE"))

    @property
    def service_name(self) -> str | None:
        """Name of this service, or None where the OpenTelemetry resource decides."""
        name = self.raw("SERVICE_NAME")
        return None if name is None else str(name)

    @property
    def delivery(self) -> str:
        """``"spool"``, ``"sync"`` or ``"memory"``; memory by default in Django's test environment."""
        value = self.raw("DELIVERY")
        if value is None:
            return "memory" if in_test_environment() else "spool"
        return str(value)

    @property
    def drain(self) -> str:
        """``"thread"``: this process drains its spool directory; ``"external"``: ``otel_audit drain --watch`` does."""
        return str(self.raw("DRAIN"))

    @property
    def spool_max_bytes(self) -> int:
        """Upper limit of the spool directory in bytes."""
        return int(self.raw("SPOOL_MAX_BYTES"))

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name the target database, so that records never drain into another one."""
        return database_fingerprint(self.database)

    @property
    def spool_dir(self) -> Path:
        """Directory of the spool: ``SPOOL_DIR``, ``$OTEL_AUDIT_SPOOL_DIR``, else one per target database."""
        configured = self.raw("SPOOL_DIR") or os.environ.get("OTEL_AUDIT_SPOOL_DIR")
        if configured:
            return Path(configured)
        if state := os.environ.get("STATE_DIRECTORY"):
            return Path(state.split(":")[0]) / self.fingerprint
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(home) / "otel-audit" / self.fingerprint

    @property
    def policy(self) -> Policy:
        """The rules that say how much of a request is recorded."""
        configured = self.raw("POLICY")
        return _policy(
            _freeze(configured) if configured is not None else None,
            _freeze(getattr(settings, LEGACY_REQUEST_URLS, None)),
            _freeze(getattr(settings, LEGACY_NO_REQUEST_BODY, ())),
            _freeze(getattr(settings, LEGACY_NO_RESPONSE_BODY, ())),
            settings.STATIC_URL,
        )

    @property
    def redact_keys(self) -> tuple[str, ...]:
        """Names of secrets beside the built-in ones."""
        return tuple(self.raw("REDACT"))

    @property
    def redactor(self) -> Redactor:
        """The redactor for this site's names of secrets, made once."""
        return _redactor(self.redact_keys)

    @property
    def resolve_actor(self) -> bool:
        """Whether the guard resolves the session's user when the view never asked for it."""
        return bool(self.raw("RESOLVE_ACTOR"))

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        """Networks whose forwarded headers are believed."""
        return tuple(self.raw("TRUSTED_PROXIES"))

    @property
    def auth_urls(self) -> tuple[str, ...]:
        """Paths of sign-in views that send no Django signal."""
        value = self.raw("AUTH_URLS")
        return (value,) if isinstance(value, str) else tuple(value)

    @property
    def auth_failed_status_codes(self) -> tuple[int, ...]:
        """Status codes by which those views say that a sign-in failed."""
        value = self.raw("AUTH_FAILED_STATUS_CODES")
        return (value,) if isinstance(value, int) else tuple(value)

    @property
    def user_pk_name(self) -> str:
        """Attribute of the user object that is recorded as the actor's key."""
        return str(self.raw("USER_PK_NAME"))

    @property
    def otlp(self) -> Mapping[str, Any] | None:
        """Forwarding: endpoint, protocol, headers, …; None where only the standard variables count."""
        value = self.raw("OTLP")
        return value if isinstance(value, Mapping) else None

    @property
    def trace_url(self) -> str | None:
        """Template of a link to the trace, with ``{trace_id}`` and ``{span_id}``."""
        value = self.raw("TRACE_URL")
        return None if value is None else str(value)


conf = AuditSettings()


def in_test_environment() -> bool:
    """Whether ``setup_test_environment()`` has run; importing ``django.test`` alone is not enough."""
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")


def database_fingerprint(alias: str) -> str:
    """Return 16 hex digits that name the database behind ``alias``: engine, host, port and name, no credentials."""
    from django.db import connections

    target = connections[alias].settings_dict
    parts = [str(target.get(key) or "") for key in ("ENGINE", "HOST", "PORT", "NAME")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _freeze(value: Any) -> Any:
    """Make lists and dicts hashable, so that an unchanged setting is compiled once."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, _freeze(item)) for key, item in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_freeze(item) for item in value)
    return value


@lru_cache(maxsize=8)
def _redactor(keys: tuple[str, ...]) -> Redactor:
    return Redactor(keys)


@lru_cache(maxsize=8)
def _policy(rules: Any, request_urls: Any, no_request_body: Any, no_response_body: Any, static_url: str) -> Policy:
    written = [Rule.parse(dict(rule)) for rule in rules or ()]
    return Policy.build(
        written,
        request_urls=request_urls,
        no_request_body=no_request_body,
        no_response_body=no_response_body,
        static_url=static_url,
    )
