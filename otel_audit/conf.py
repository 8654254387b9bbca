"""The only reader of settings: one property per key of ``OTEL_AUDIT``, read when it is used.

The names of ``drf-audit-trail`` are read where the new key is absent; `otel_audit.checks` says the new name.
A value that is wrong never raises here: the property falls back, says so once in the log, and a check says
what to write. What was read is kept as long as ``OTEL_AUDIT`` is the same dict with the same entries, so
``override_settings`` and plain assignment both work and a request pays next to nothing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Mapping
from functools import cached_property, lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from django.conf import Settings, settings
from django.core.signals import setting_changed
from django.db import connections

from otel_audit.options import LEGACY_OPTIONS, OPTIONS, Option, Redaction, shown, spool_directory
from otel_audit.own_redaction import redactor
from otel_audit.policy import Policy
from otel_audit.redaction import MARKED, Redactor

__all__ = ["DEFAULTS", "LEGACY_NAMES", "AuditSettings", "conf", "database_fingerprint", "in_test_environment"]

logger = logging.getLogger("otel_audit.conf")

SETTING: Final = "OTEL_AUDIT"
#: The variable that says where the spool is, where ``SPOOL_DIR`` does not.
SPOOL_VARIABLE: Final = "OTEL_AUDIT_SPOOL_DIR"

DEFAULTS: Final[dict[str, Any]] = {key: option.default for key, option in OPTIONS.items()}
#: New key → the ancestor's names for it, the documented spelling first.
LEGACY_NAMES: Final[dict[str, tuple[str, ...]]] = {
    key: option.legacy for key, option in OPTIONS.items() if option.legacy
}

T = TypeVar("T")

_TARGET_KEYS: Final = ("ENGINE", "HOST", "PORT", "NAME")
#: Django gives each database all of them.
_target_of: Final = itemgetter(*_TARGET_KEYS)
_SPOOL_VARIABLES: Final = (SPOOL_VARIABLE, "STATE_DIRECTORY", "XDG_STATE_HOME", "HOME")


class _Key(Generic[T]):
    """A key of ``OTEL_AUDIT`` as an attribute of `AuditSettings`, of the type that its option reads."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __get__(self, instance: AuditSettings, owner: type[AuditSettings]) -> T:
        value: T = getattr(instance.now(), self.key)
        return value


class Values:
    """What each key of ``OTEL_AUDIT`` is read into, as an attribute, read when it is asked for first."""

    def __init__(self, source: AuditSettings) -> None:
        self._source = source

    @cached_property
    def policy(self) -> Policy:
        """The rules that say how much of a request is recorded."""
        return self._source.make_policy(self.POLICY, self.AUTH_URLS)

    def __getattr__(self, key: str) -> Any:
        value = self._source.read(key)
        setattr(self, key, value)
        return value


class AuditSettings:
    """Typed view of ``settings.OTEL_AUDIT``; every property is read when it is used."""

    #: Whether anything is recorded at all.
    enabled = _Key[bool]("ENABLED")
    #: Name of this service, or None where the OpenTelemetry resource decides.
    service_name = _Key[str | None]("SERVICE_NAME")
    #: ``"interval"``: records survive kill -9 at once and a power loss after 100 ms; ``"always"``: that at once, too.
    fsync = _Key[str]("FSYNC")
    #: ``"record"``: a request is noted before its view runs; ``"require"``: and refused where that fails.
    intents = _Key[str]("INTENTS")
    #: ``"thread"``: this process drains its spool directory; ``"external"``: the command ``drain --watch``
    #: does.
    drain = _Key[str]("DRAIN")
    #: Upper limit of the spool directory in bytes.
    spool_max_bytes = _Key[int]("SPOOL_MAX_BYTES")
    #: Names of secrets beside the built-in ones, the site's own callable, the keys of marks.
    redaction = _Key[Redaction]("REDACT")
    #: Whether the guard resolves the session's user when the view never asked for it.
    resolve_actor = _Key[bool]("RESOLVE_ACTOR")
    #: Networks whose forwarded headers are believed.
    trusted_proxies = _Key[tuple[str, ...]]("TRUSTED_PROXIES")
    #: Networks and secrets of the services whose processes may go on here.
    trusted_peers = _Key[tuple[Any, ...]]("TRUSTED_PEERS")
    #: Paths of sign-in views that send no Django signal, each compared as a whole.
    auth_urls = _Key[tuple[str, ...]]("AUTH_URLS")
    #: Status codes by which those views say that a sign-in failed.
    auth_failed_status_codes = _Key[tuple[int, ...]]("AUTH_FAILED_STATUS_CODES")
    #: Attribute of the user object that is recorded as the actor's key.
    user_pk_name = _Key[str]("USER_PK_NAME")
    #: Forwarding: endpoint, protocol, headers, timeout; None where only the standard variables count.
    otlp = _Key[Mapping[str, Any] | None]("OTLP")
    #: Header in which a trusted proxy says whose certificate it has checked, for the receiver; lower-case.
    receiver_certificate_header = _Key[str | None]("RECEIVER_CERTIFICATE_HEADER")
    #: Template of a link to the trace, with ``{trace_id}`` and ``{span_id}``.
    trace_url = _Key[str | None]("TRACE_URL")

    def __init__(self) -> None:
        # What the site wrote, a copy of its entries, and what the keys are read into: one tuple, as threads share it.
        self._read: tuple[Any, Any, Values] = (None, None, Values(self))
        # What was made of several values: name → inputs and what was made of them.
        self._made: dict[str, tuple[tuple[Any, ...], Any]] = {}
        self._complained: set[str] = set()
        setting_changed.connect(self._forget)

    # ── made of several values ──────────────────────────────────────────────────────────────────

    @property
    def database(self) -> str:
        """Alias of the audit database."""
        alias: str = self.value("DATABASE")
        if alias in connections.settings:
            return alias
        self._complain(self.source("DATABASE")[0], [f"{shown(alias)} is no alias of DATABASES"])
        return str(DEFAULTS["DATABASE"])

    @property
    def delivery(self) -> str:
        """``"spool"``, ``"sync"`` or ``"memory"``; where the site says nothing, memory in Django's test environment."""
        return self.delivery_by(self.now())

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name the target database, so that records never drain into another one."""
        return self.fingerprint_by(self.now())

    @property
    def spool_dir(self) -> Path:
        """Directory of the spool: ``SPOOL_DIR``, ``$OTEL_AUDIT_SPOOL_DIR``, else one per target database."""
        inputs = (self.value("SPOOL_DIR"), self.fingerprint, *map(os.environ.get, _SPOOL_VARIABLES))
        made = self._made.get("spool_dir")
        if made is None or made[0] != inputs:
            made = self._made["spool_dir"] = (inputs, self._spool_dir(*inputs[:2]))
        return made[1]

    @property
    def policy(self) -> Policy:
        """The rules that say how much of a request is recorded."""
        return self.now().policy

    @property
    def redactor(self) -> Redactor:
        """The redactor for this site's secrets, made once."""
        inputs = (self.now().REDACT, MARKED.names)
        made = self._made.get("redactor")
        if made is None or made[0][0] is not inputs[0] or made[0][1] is not inputs[1]:
            made = self._made["redactor"] = (inputs, redactor(*inputs))
        return made[1]

    # ── for the checks ──────────────────────────────────────────────────────────────────────────

    def written(self) -> Any:
        """Return what the site wrote as ``OTEL_AUDIT``, whatever it is; None where it wrote nothing."""
        # A look into the settings object itself: Django's lazy one takes 1 µs for a setting that is not
        # there.
        holder = settings._wrapped  # type: ignore[misc]  # unknown to the plugin
        return vars(holder).get(SETTING) if type(holder) is Settings else getattr(settings, SETTING, None)

    def source(self, key: str) -> tuple[str, Any]:
        """Return the name of the setting that counts for ``key``, and what stands there, else the default."""
        written = self.written()
        if isinstance(written, Mapping) and key in written:
            return f"{SETTING}[{key!r}]", written[key]
        for name in OPTIONS[key].legacy:
            if hasattr(settings, name):
                return name, getattr(settings, name)
        return f"{SETTING}[{key!r}]", OPTIONS[key].default

    def legacy(self, name: str) -> tuple[Any, list[str]]:
        """Read one of the ancestor's URL settings; return its rules and what is wrong with it."""
        option: Option = LEGACY_OPTIONS[name]
        return option.read(getattr(settings, name, option.default))

    # ── reading ─────────────────────────────────────────────────────────────────────────────────

    def value(self, key: str) -> Any:
        """Return what ``key`` was read into: the user's value, or what counts where that is wrong."""
        return getattr(self.now(), key)

    def now(self) -> Values:
        """Return what the keys are read into as ``OTEL_AUDIT`` is now, for whoever needs several of them."""
        # As in `written`, which this does not call, without the method by which Django's lazy object is asked for
        # everything: a request asks often.
        holder = object.__getattribute__(settings, "_wrapped")
        written = vars(holder).get(SETTING) if type(holder) is Settings else self.written()
        known, entries, values = self._read
        if written is not known or (written is not entries and written != entries):
            values = Values(self)
            self._read = (written, dict(written) if isinstance(written, Mapping) else written, values)
        return values

    def delivery_by(self, now: Values) -> str:
        """Return `delivery` for who has asked for what the keys are `now` already."""
        chosen: str | None = now.DELIVERY
        return chosen or ("memory" if in_test_environment() else "spool")

    def fingerprint_by(self, now: Values) -> str:
        """Return `fingerprint` for who has asked for what the keys are `now` already."""
        alias, databases = now.DATABASE, connections.settings
        inputs = _target_of(databases[alias if alias in databases else self.database])
        made = self._made.get("fingerprint")
        if made is None or made[0] != inputs:
            made = self._made["fingerprint"] = (inputs, database_fingerprint(self.database))
        return str(made[1])

    def read(self, key: str) -> Any:
        """Read ``key`` anew, and say in the log what is wrong with it."""
        name, raw = self.source(key)
        value, wrong = OPTIONS[key].read(raw)
        self._complain(name, wrong)
        return value

    def make_policy(self, rules: Any, auth_urls: Any) -> Policy:
        """Return the policy of these rules, of the ancestor's settings, and of where the static files are."""
        lists, static_url = [], settings.STATIC_URL
        for name in LEGACY_OPTIONS:
            read, wrong = self.legacy(name)
            self._complain(name, wrong)
            lists.append(read)
        is_path = isinstance(static_url, str) and static_url.startswith("/") and static_url.strip("/") != ""
        return Policy(rules, frozenset(auth_urls), static_url if is_path else None, *lists)

    def _spool_dir(self, configured: Path | None, fingerprint: str) -> Path:
        if configured is not None:
            return configured
        if variable := os.environ.get(SPOOL_VARIABLE):
            path, wrong = spool_directory(variable)
            if path is not None:
                return path  # type: ignore[no-any-return]  # the option reads a Path
            self._complain(SPOOL_VARIABLE, wrong)
        if state := os.environ.get("STATE_DIRECTORY"):
            return Path(state.split(":")[0]) / fingerprint
        return _state_home() / "otel-audit" / fingerprint

    def _complain(self, name: str, wrong: list[str]) -> None:
        """Log what is wrong, once for as long as the process lives."""
        for sentence in wrong:
            message = f"{name}: {sentence}"
            if message not in self._complained:
                self._complained.add(message)
                logger.error("%s; otel_audit goes on without it. 'manage.py check' says what to write.", message)

    def _forget(self, **_kwargs: Any) -> None:
        self._read = (None, None, Values(self))
        self._made.clear()


conf = AuditSettings()


def in_test_environment() -> bool:
    """Whether ``setup_test_environment()`` has run; importing ``django.test`` alone is not enough."""
    utils = sys.modules.get("django.test.utils")
    return hasattr(getattr(utils, "_TestState", None), "saved_data")  # a thread may meet a module half imported


def database_fingerprint(alias: str) -> str:
    """Return 16 hex digits that name the database behind ``alias``, made without its credentials."""
    target = connections.settings[alias]  # the very dict that a test's database changes, without a connection
    return _fingerprint(*(str(target.get(key) or "") for key in _TARGET_KEYS))


def _state_home() -> Path:
    if home := os.environ.get("XDG_STATE_HOME"):
        return Path(home)
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError:  # a container's user may have neither HOME nor an entry in the password database
        return Path("/var/lib")


@lru_cache(maxsize=8)
def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
