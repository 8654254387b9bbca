"""Databases of a test's own for sites that run in other processes: SQLite files, or made on the server of the suite."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest_django
from django.conf import settings
from django.db import connections
from django.db.utils import ConnectionHandler

__all__ = ["Databases", "fresh_databases", "sqlite"]

_SERVER_KEYS = ("ENGINE", "USER", "PASSWORD", "HOST", "PORT")


class Databases:
    """Databases by alias; ``settings`` is what the site's ``DATABASES`` needs, JSON-able."""

    def __init__(self, databases: dict[str, dict[str, Any]], blocker: pytest_django.DjangoDbBlocker) -> None:
        self.settings = databases
        self._blocker = blocker

    def query(self, alias: str, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement on a connection that is closed again; return its rows, if it has any."""
        handler = ConnectionHandler({"default": dict(self.settings[alias])})
        with self._blocker.unblock():
            connection = handler["default"]
            try:
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    return list(cursor.fetchall()) if cursor.description else []
            finally:
                connection.close()

    def tables(self, alias: str, prefix: str) -> list[str]:
        """Return the names of the tables that begin with ``prefix``."""
        handler = ConnectionHandler({"default": dict(self.settings[alias])})
        with self._blocker.unblock():
            connection = handler["default"]
            try:
                return [name for name in connection.introspection.table_names() if name.startswith(prefix)]
            finally:
                connection.close()

    def names(self) -> list[str]:
        """Return the names of these databases and of all that were derived from them, as they exist now."""
        return sorted(found for found in self._existing() if any(name in found for _, name in self._names()))

    def _names(self) -> Iterator[tuple[str, str]]:
        for alias, database in self.settings.items():
            yield alias, str(database["NAME"])

    def _existing(self) -> list[str]:
        if connections["default"].vendor == "sqlite":
            folders = {Path(name).parent for _, name in self._names()}
            return [str(path) for folder in folders for path in folder.iterdir()]
        postgresql = connections["default"].vendor == "postgresql"
        source = (
            "SELECT datname FROM pg_database" if postgresql else "SELECT schema_name FROM information_schema.schemata"
        )
        with self._blocker.unblock(), connections["default"]._nodb_cursor() as cursor:
            cursor.execute(source)
            return [name for (name,) in cursor.fetchall()]


@contextmanager
def fresh_databases(
    aliases: Sequence[str], directory: Path, blocker: pytest_django.DjangoDbBlocker
) -> Iterator[Databases]:
    """Give empty databases for ``aliases``: on the suite's server, dropped at the end, else in ``directory``."""
    server = settings.DATABASES["default"]
    if server["ENGINE"].endswith("sqlite3"):
        directory.mkdir(parents=True, exist_ok=True)
        files = {alias: sqlite(directory / f"{alias}.sqlite3") for alias in aliases}
        yield Databases(files, blocker)
        return
    names = {alias: f"otel_audit_{uuid.uuid4().hex[:12]}_{alias}" for alias in aliases}
    common = {key: server[key] for key in _SERVER_KEYS if server.get(key)}
    _on_server(blocker, [f"CREATE DATABASE {name}{_character_set(server)}" for name in names.values()])
    try:
        yield Databases({alias: {**common, "NAME": name} for alias, name in names.items()}, blocker)
    finally:
        _on_server(blocker, [f"DROP DATABASE {name}" for name in names.values()])


def sqlite(path: Path) -> dict[str, Any]:
    """Return what Django needs for a database in a file."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }


def _character_set(server: dict[str, Any]) -> str:
    return " CHARACTER SET utf8mb4" if server["ENGINE"].endswith("mysql") else ""


def _on_server(blocker: pytest_django.DjangoDbBlocker, statements: Sequence[str]) -> None:
    with blocker.unblock(), connections["default"]._nodb_cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
