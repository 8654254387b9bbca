"""Whether the audit database has its tables; asks it only when ``check --database`` names it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator

from django.core.checks import Tags
from django.db import Error as DatabaseError
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from otel_audit.checks.registry import Finding, check
from otel_audit.conf import conf

__all__ = ["missing_migrations"]

_APP = "otel_audit"


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


def missing_migrations(alias: str) -> list[str]:
    """Return the names of our migrations that the database ``alias`` does not have.

    Raises:
        django.db.Error: the database cannot be asked.
    """
    loader = MigrationLoader(connections[alias], ignore_no_migrations=True)
    nodes = loader.graph.nodes
    return sorted(name for app, name in nodes if app == _APP and (app, name) not in loader.applied_migrations)
