"""How the audit trail stands in the site: databases, router, middleware, proxies, delivery."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from otel_audit.apps import is_audit_middleware
from otel_audit.checks.registry import Finding, check
from otel_audit.conf import conf, in_test_environment
from otel_audit.options import OPTIONS, shown

__all__: list[str] = []

_PROXY_SETTINGS: Final = ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST", "USE_X_FORWARDED_PORT")


@check("E003")
def database_alias() -> Iterator[Finding]:
    """The audit database is one of ``DATABASES``."""
    alias = conf.value("DATABASE")
    if alias not in connections.settings:
        yield (
            f"{conf.source('DATABASE')[0]} names the database {shown(alias)}, which is not in DATABASES; "
            "'default' is used.",
            f"Add it to DATABASES, or write one of {', '.join(map(repr, connections.settings))}.",
        )


@check("E004")
def database_router() -> Iterator[Finding]:
    """The site's routers send the audit models to the audit database."""
    model = apps.get_model("otel_audit", "RequestAuditEvent")
    written_to = router.db_for_write(model)
    if written_to == conf.database and router.allow_migrate_model(conf.database, model):
        return
    yield (
        f"The audit tables belong into the database {conf.database!r}, but DATABASE_ROUTERS sends them to "
        f"{shown(written_to)}.",
        'Write DATABASE_ROUTERS = ["otel_audit.routers.AuditRouter", …], in front of all others.',
    )


@check("W003")
def middleware_entry() -> Iterator[Finding]:
    """The site's ``MIDDLEWARE`` has our entry."""
    if not _audit_entries():
        yield (
            "MIDDLEWARE has no entry of otel_audit: requests and sign-ins are not recorded, only processes.",
            'Add "otel_audit.middleware.AuditMiddleware" as the last entry of MIDDLEWARE.',
        )


@check("W033")
def receiver_behind_proxy() -> Iterator[Finding]:
    """Where a header says whose certificate a proxy has checked, somebody is believed to be that proxy."""
    if conf.receiver_certificate_header is not None and not conf.trusted_proxies:
        yield (
            'OTEL_AUDIT["RECEIVER_CERTIFICATE_HEADER"] is set, but TRUSTED_PROXIES is not: nobody is let in by a '
            "certificate.",
            'Write OTEL_AUDIT["TRUSTED_PROXIES"] with the address of the proxy, such as ["127.0.0.1"].',
        )


@check("W004")
def middleware_entry_once() -> Iterator[Finding]:
    """Our entry stands there once."""
    entries = _audit_entries()
    if len(entries) > 1:
        yield (
            f"MIDDLEWARE has {len(entries)} entries of otel_audit: {', '.join(entries)}; the second does nothing.",
            f"Remove {entries[0]!r}, the first of them.",
        )


@check("W005")
def guard_is_outermost() -> Iterator[Finding]:
    """OpenTelemetry's middleware does not stand in front of ours."""
    from otel_audit.middleware import GUARD_PATH, OTEL_PATH

    installed = list(settings.MIDDLEWARE)
    if OTEL_PATH not in installed or GUARD_PATH not in installed:
        return
    if installed.index(OTEL_PATH) < installed.index(GUARD_PATH):
        yield (
            "OpenTelemetry's Django middleware stands in front of otel_audit's: requests with a bad Host header, and "
            "errors of OpenTelemetry's own middleware, are not recorded.",
            "Call DjangoInstrumentor().instrument() before django.setup(), in manage.py, wsgi.py and asgi.py. In an "
            "AppConfig.ready(), name that app before 'otel_audit' in INSTALLED_APPS.",
        )


@check("W006")
def proxies() -> Iterator[Finding]:
    """A site behind a proxy says which proxy it believes."""
    behind = [name for name in _PROXY_SETTINGS if getattr(settings, name, None)]
    if behind and not conf.trusted_proxies:
        yield (
            f"The site is behind a proxy ({', '.join(behind)}), but OTEL_AUDIT has no TRUSTED_PROXIES: the proxy's "
            "address is recorded as the client's.",
            f"Set OTEL_AUDIT['TRUSTED_PROXIES'] to {OPTIONS['TRUSTED_PROXIES'].write}.",
        )


@check("W007")
def user_key() -> Iterator[Finding]:
    """The user model has the attribute that is recorded as the actor's key."""
    try:
        model = get_user_model()
    except ImproperlyConfigured:  # no user model: Django's own checks say so
        return
    if not hasattr(model, conf.user_pk_name):
        yield (
            f"{conf.source('USER_PK_NAME')[0]} is {conf.user_pk_name!r}, which {model.__name__} does not have; "
            "its primary key is recorded.",
            f"Set {conf.source('USER_PK_NAME')[0]} to {OPTIONS['USER_PK_NAME'].write}.",
        )


@check("W008")
def spool_directory() -> Iterator[Finding]:
    """The spool directory can be used, or made."""
    if conf.delivery != "spool":
        return
    problem = _directory_problem(conf.spool_dir)
    if problem is not None:
        yield (
            f"{problem} Until then records are written to the audit database inside each request.",
            'Run this check as the user that serves the site. Set OTEL_AUDIT["SPOOL_DIR"], or the variable '
            "OTEL_AUDIT_SPOOL_DIR, to a directory that belongs to that user with mode 0700.",
        )


@check("W010")
def spool_file_system() -> Iterator[Finding]:
    """The spool directory is on a disk of this machine."""
    from otel_audit_exporters.directory import directory_warning

    if conf.delivery == "spool" and (warning := directory_warning(conf.spool_dir)) is not None:
        yield warning, 'Write OTEL_AUDIT["SPOOL_DIR"] = "/var/lib/<your site>/audit", or another place on a local disk.'


@check("W011")
def excluded_exceptions() -> Iterator[Finding]:
    """No rule leaves out sign-ins, denials or errors."""
    for position, rule in enumerate(conf.policy.rules, 1):
        if rule.also_excludes:
            yield (
                f"Rule {position} of OTEL_AUDIT['POLICY'] leaves out even {', '.join(sorted(rule.also_excludes))}: "
                "what an attacker does there is not recorded.",
                'Remove its "also_excludes", or silence this check where that is what you want.',
            )


@check("W009")
def memory_delivery() -> Iterator[Finding]:
    """Records are kept in memory in tests alone."""
    if conf.delivery == "memory" and not in_test_environment():
        yield (
            'OTEL_AUDIT["DELIVERY"] is "memory" outside of tests: nothing is stored.',
            'Remove it, or write OTEL_AUDIT["DELIVERY"] = "spool".',
        )


def _audit_entries() -> list[str]:
    """Return the site's own entries: ours, its alias, and classes derived from it."""
    from otel_audit.middleware import GUARD_PATH

    return [path for path in settings.MIDDLEWARE if path != GUARD_PATH and is_audit_middleware(path)]


def _directory_problem(directory: Path) -> str | None:
    """Say why ``directory`` cannot be the spool. Makes none: a check may run as another user than the site."""
    if os.path.lexists(directory):
        from otel_audit_exporters.directory import directory_problem

        return directory_problem(directory)
    parent = next(path for path in directory.parents if path.exists())
    if os.access(parent, os.W_OK | os.X_OK):
        return None
    return f"The spool directory {directory} is not there and cannot be made in {parent}."
