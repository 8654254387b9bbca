"""What the audit database tells: whether it has its tables, and whether requests come through an unknown proxy.

It is asked only when ``check --database`` names it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from typing import Any

from django.apps import apps
from django.core.checks import Tags
from django.db import Error as DatabaseError
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from otel_audit.attributes import AUDIT_UNTRUSTED_FORWARDED, AUDIT_UNTRUSTED_FORWARDED_FOR
from otel_audit.checks.registry import Finding, check
from otel_audit.conf import conf
from otel_audit.options import OPTIONS

__all__ = ["missing_migrations"]

_APP = "otel_audit"
#: The newest requests that are looked at.
_LATEST = 200


@check("W030", Tags.database)
def tables(databases: Collection[str]) -> Iterator[Finding]:
    """The tables of this version are in the audit database."""
    alias = conf.database
    # `migrate` asks too, just before it makes them.
    if alias not in databases or sys.argv[1:2] == ["migrate"]:
        return
    try:
        missing = missing_migrations(alias)
    except DatabaseError as error:
        yield (
            f"The audit database {alias!r} does not answer ({type(error).__name__}): records wait in the spool.",
            f"Start it, or correct DATABASES[{alias!r}].",
        )
        return
    if missing:
        yield (
            f"The audit database {alias!r} lacks the migrations {', '.join(missing)}: records wait in the spool.",
            f"Run manage.py migrate --database {alias}.",
        )


@check("W031", Tags.database)
def forwarded_headers(databases: Collection[str]) -> Iterator[Finding]:
    """Where the latest requests came with forwarded headers, the site says whom it believes."""
    if conf.trusted_proxies or conf.database not in databases or sys.argv[1:2] == ["migrate"]:
        return
    try:
        told = sum(map(_is_forwarded, _latest_extras(conf.database)))
    except DatabaseError:
        return  # W030 says so
    if told:
        yield (
            f"{told} of the latest {_LATEST} requests came with X-Forwarded-For or Forwarded, but OTEL_AUDIT has no "
            "TRUSTED_PROXIES: the address of the peer is recorded as the client's.",
            f"Behind a proxy, set OTEL_AUDIT['TRUSTED_PROXIES'] to {OPTIONS['TRUSTED_PROXIES'].write}. Without one, "
            "clients make these headers up, and nothing is to be done.",
        )


def _latest_extras(alias: str) -> list[Any]:
    model = apps.get_model(_APP, "RequestAuditEvent")
    return list(model._base_manager.using(alias).order_by("-id").values_list("extra_informations", flat=True)[:_LATEST])


def _is_forwarded(extra: Any) -> bool:
    return isinstance(extra, dict) and (AUDIT_UNTRUSTED_FORWARDED_FOR in extra or AUDIT_UNTRUSTED_FORWARDED in extra)


def missing_migrations(alias: str) -> list[str]:
    """Return the names of our migrations that the database ``alias`` does not have.

    Raises:
        django.db.Error: the database cannot be asked.
    """
    loader = MigrationLoader(connections[alias], ignore_no_migrations=True)
    nodes = loader.graph.nodes
    return sorted(name for app, name in nodes if app == _APP and (app, name) not in loader.applied_migrations)
