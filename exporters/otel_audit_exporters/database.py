"""Where the databases differ: connections of our own with their own time limits, and what an error means."""

from __future__ import annotations

import copy
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any, Final

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connections,
    models,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.db.utils import load_backend

from otel_audit.locks import starting

logger = logging.getLogger("otel_audit.delivery")

__all__ = ["answer_in_time", "close_own_connection", "insert_new", "is_outage", "own_connection"]

CONNECT_TIMEOUT_S = 5
#: What SQLite takes in one statement, however old it is; more at once were not faster.
SQLITE_PARAMETERS: Final = 999
#: A server that accepts and never answers holds nobody up for longer.
ANSWER_TIMEOUT_S = 30

#: MySQL reports some faults of a single row as OperationalError: bad character, out of range, too long, no
#: JSON, …
_MYSQL_ROW_FAULTS: Final = frozenset({1153, 1264, 1265, 1292, 1366, 1406, 3140, 4025})
#: Attribute, the type whose values are ready for the driver, and the field, of each column.
_Columns = list[tuple[str, type | None, Any]]
#: ProgrammingError that speaks of the schema or of rights, not of the row.
_MYSQL_SCHEMA: Final = frozenset({1044, 1045, 1049, 1054, 1142, 1143, 1146})
_POSTGRESQL_SCHEMA: Final = frozenset({"42P01", "42703", "42501", "3F000"})
#: PostgreSQL's "program limit exceeded" is an OperationalError about one row.
_POSTGRESQL_ROW_FAULTS: Final = frozenset({"54000", "54001", "54011", "54023"})


def close_own_connection(alias: str) -> None:
    """Close the calling thread's connection for ``alias``; the next query opens a new one."""
    try:
        connections[alias].close()
    except DatabaseError as error:  # it was broken already; it is gone either way
        logger.debug("Closing a broken connection to %r: %s", alias, error)


@contextmanager
def own_connection(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """Use a connection of our own inside the block, outside of any transaction of the calling thread."""
    before = connections[alias]
    connections[alias] = wrapper = _wrapper(alias)
    try:
        yield wrapper
    finally:
        close_own_connection(alias)
        connections[alias] = before


@contextmanager
def answer_in_time(alias: str) -> Iterator[None]:
    """Break the calling thread's connection when the server has not answered all of the block in time.

    PostgreSQL's own limits need a server that is alive, and its client has none; MySQL's client has.
    """
    wrapper = connections[alias]
    if wrapper.vendor != "postgresql":
        yield
        return
    timer = threading.Timer(ANSWER_TIMEOUT_S, _break, [wrapper])
    timer.daemon = True
    timer.name = "otel-audit-deadline"
    with starting():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def insert_new(model: type[Model], rows: Sequence[Model], alias: str) -> bool:
    """Insert the rows whose primary key is not there yet; True when it is certain that none was.

    Many rows in a statement, as ``executemany`` of psycopg and of SQLite runs one for each row: PostgreSQL reads and
    plans each, and SQLite gives the interpreter away for each, which the requests of this process have to take back.
    Two to five times faster than ``bulk_create``. Not ``INSERT IGNORE``, which ``bulk_create(ignore_conflicts=True)``
    becomes on MariaDB: it changes values that do not fit, silently.
    """
    connection = connections[alias]
    head, values, tail = _insert_statement(model, alias)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"{head}{_as_json(model, alias)}{tail}", [_document(model, rows)])
            return bool(cursor.rowcount == len(rows))
        columns = _columns(model)
        parameters = [_prepared(columns, row, connection) for row in rows]
        if connection.vendor == "sqlite":
            inserted = 0
            for part in _parts(parameters, max(1, SQLITE_PARAMETERS // len(columns))):
                written = ", ".join([values] * len(part))
                cursor.execute(f"{head}VALUES {written}{tail}", list(chain.from_iterable(part)))
                inserted += cursor.rowcount
            return inserted == len(rows)
        cursor.executemany(f"{head}VALUES {values}{tail}", parameters)  # MySQL's joins the rows itself
        return False  # it counts a row that was there like a new one, as Django asks it for the rows found


def _document(model: type[Model], rows: Sequence[Model]) -> str:
    """Return the rows as one JSON text, which takes a third of the time of thousands of literals."""
    names = [(field.attname, field.column) for field in model._meta.concrete_fields]
    return _encode([{column: values[attname] for attname, column in names} for values in map(vars, rows)])


#: Times and UUIDs as text, as PostgreSQL reads them.
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str).encode


def _as_json(model: type[Model], alias: str) -> str:
    """Return what reads the rows of `_document`; the table says which type each value has."""
    quote = connections[alias].ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in model._meta.concrete_fields)
    # Names of our own tables and columns.
    return f"SELECT {columns} FROM json_populate_recordset(NULL::{quote(model._meta.db_table)}, %s::json)"  # noqa: S608


def _parts(rows: list[list[Any]], length: int) -> Iterator[list[list[Any]]]:
    return (rows[start : start + length] for start in range(0, len(rows), length))


def is_outage(error: BaseException) -> bool:
    """Whether ``error`` is the database's trouble (down, locked, full, read-only, not migrated), not a row's."""
    code = _code(error)
    if isinstance(error, OperationalError):
        return code not in _MYSQL_ROW_FAULTS and code not in _POSTGRESQL_ROW_FAULTS
    if isinstance(error, ProgrammingError):
        return code in _MYSQL_SCHEMA or code in _POSTGRESQL_SCHEMA
    # What is not known to be a row's fault is none: DatabaseError itself is SQLite's "file is not a database".
    return not isinstance(
        error, DataError | IntegrityError | NotSupportedError | ValueError | TypeError | OverflowError
    )


def _break(wrapper: BaseDatabaseWrapper) -> None:
    """Shut the socket down: whoever waits for an answer gets an error."""
    try:
        with socket.socket(fileno=os.dup(wrapper.connection.fileno())) as connected:
            connected.shutdown(socket.SHUT_RDWR)
    except Exception as error:  # the edge of a timer: the connection may be closed by now, or another driver's
        logger.debug("A connection could not be broken: %s", error)


def _prepared(columns: _Columns, row: Model, connection: BaseDatabaseWrapper) -> list[Any]:
    """Return the values as the driver takes them. Most are text, numbers, or nothing: those are ready as they are."""
    values = vars(row)
    return [
        value
        if (value := values[attname]) is None or type(value) is ready
        else field.get_db_prep_save(value, connection)
        for attname, ready, field in columns
    ]


@cache
def _columns(model: type[Model]) -> _Columns:
    return [(field.attname, _ready_type(field), field) for field in model._meta.concrete_fields]


def _ready_type(field: Any) -> type | None:
    if isinstance(field, models.CharField | models.TextField):
        return str
    if isinstance(field, models.IntegerField):
        return int
    return float if isinstance(field, models.FloatField) else None


def _insert_statement(model: type[Model], alias: str) -> tuple[str, str, str]:
    """Return what stands before the rows, the values of one, and what stands behind."""
    connection = connections[alias]
    quote = connection.ops.quote_name
    columns = [quote(str(field.column)) for field in model._meta.concrete_fields]
    key = quote(str(model._meta.pk.column))
    if connection.vendor == "mysql":
        on_conflict = f"ON DUPLICATE KEY UPDATE {key} = {key}"
    else:
        on_conflict = f"ON CONFLICT ({key}) DO NOTHING"
    values = ", ".join(["%s"] * len(columns))
    # Names of our own tables and columns; every value is a parameter.
    table = quote(model._meta.db_table)
    return f"INSERT INTO {table} ({', '.join(columns)}) ", f"({values})", f" {on_conflict}"


def _code(error: BaseException) -> int | str | None:
    """Return MySQL's number or PostgreSQL's SQLSTATE behind Django's exception."""
    cause = error.__cause__
    if (state := getattr(cause, "sqlstate", None)) is not None:
        return str(state)
    if error.args and isinstance(error.args[0], int):
        return error.args[0]
    return None


def _wrapper(alias: str) -> BaseDatabaseWrapper:
    settings = copy.deepcopy(connections.settings[alias])
    settings["ATOMIC_REQUESTS"] = False
    settings["AUTOCOMMIT"] = True
    settings["CONN_MAX_AGE"] = None
    settings["CONN_HEALTH_CHECKS"] = False
    backend = load_backend(settings["ENGINE"])
    wrapper: BaseDatabaseWrapper = backend.DatabaseWrapper(settings, alias)
    limit = _LIMITS.get(wrapper.vendor)
    if limit is not None:
        limit(settings["OPTIONS"])
    return wrapper


def _limit_postgresql(options: dict[str, Any]) -> None:
    # A pool is shared by alias: its connections have the site's limits, not ours.
    options.pop("pool", None)
    options.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
    options.setdefault("keepalives_idle", ANSWER_TIMEOUT_S)
    options.setdefault("tcp_user_timeout", ANSWER_TIMEOUT_S * 1000)
    limits = f"-c statement_timeout={ANSWER_TIMEOUT_S * 1000} -c lock_timeout={CONNECT_TIMEOUT_S * 1000}"
    options["options"] = f"{options.get('options', '')} {limits}".strip()


def _limit_mysql(options: dict[str, Any]) -> None:
    options.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
    options.setdefault("read_timeout", ANSWER_TIMEOUT_S)
    options.setdefault("write_timeout", ANSWER_TIMEOUT_S)
    # Without strict mode a value that does not fit is changed silently.
    options.setdefault("init_command", "SET sql_mode='STRICT_TRANS_TABLES'")


def _limit_sqlite(options: dict[str, Any]) -> None:
    options["timeout"] = CONNECT_TIMEOUT_S
    # Taking the write lock at once waits for it; taking it later fails at once when another has written.
    options.setdefault("transaction_mode", "IMMEDIATE")


_LIMITS: Final = {"postgresql": _limit_postgresql, "mysql": _limit_mysql, "sqlite": _limit_sqlite}
