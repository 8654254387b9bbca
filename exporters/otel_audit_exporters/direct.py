"""Writes records into the audit database before it returns: ``DELIVERY="sync"``, and where the spool takes nothing.

Never inside a transaction of the caller, which may roll back, and never by the ORM in an event loop: those writes get
a connection of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from otel_audit.conf import conf
from otel_audit.locks import starting, waited_for
from otel_audit_exporters.database import own_connection
from otel_audit_exporters.writer import Outcome, RetryLaterError

__all__ = ["DirectWriter"]

PAUSE_S: Final = 5.0
_TIMEOUT_S: Final = 30.0


class _BusyError(RetryLaterError):
    """The caller itself stands in the way; the database is well."""


class DirectWriter:
    """Writes in the thread that asks.

    Args:
        write: maps and writes sealed records on the calling thread's connection.
        pauses: leave a database alone for `PAUSE_S` when it took nothing, as somebody would wait for it each time.
    """

    def __init__(self, write: Callable[[Sequence[bytes]], Outcome], *, pauses: bool = True) -> None:
        self._write = write
        self._pauses = pauses
        self._executor: ThreadPoolExecutor | None = None
        self._not_before = 0.0

    def write(self, payloads: Sequence[bytes], *, at_request: bool) -> Outcome:
        """Write ``payloads``; they are committed when this returns.

        Args:
            payloads: sealed records.
            at_request: whether Django looks after the calling thread's connection; else one of our own serves.

        Raises:
            RetryLaterError: the database took nothing, now or a moment ago, or would wait for the caller itself.
        """
        if time.monotonic() < self._not_before:
            raise RetryLaterError(f"The audit database {conf.database!r} took nothing a moment ago.")
        try:
            return self._written(payloads, at_request)
        except _BusyError:
            raise
        except Exception:
            if self._pauses:
                self._not_before = time.monotonic() + PAUSE_S
            raise

    def close(self) -> None:
        """End the thread that writes for event loops."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def _written(self, payloads: Sequence[bytes], at_request: bool) -> Outcome:
        if _in_event_loop():
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="otel-audit-write")
            with starting():
                written = self._executor.submit(self._write_for_a_loop, payloads)
            return written.result(timeout=_TIMEOUT_S)
        connection = connections[conf.database]
        if _in_test_case(connection):
            return self._write(payloads)
        is_open = connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)
        if is_open and connection.vendor == "sqlite":
            # The caller may hold the one write lock: a second connection would wait for it, and so for itself.
            raise _BusyError(f"The caller has a transaction open on {connection.alias!r}.")
        return self._write(payloads) if at_request and not is_open else self._write_apart(payloads)

    def _write_for_a_loop(self, payloads: Sequence[bytes]) -> Outcome:
        with waited_for():
            return self._write_apart(payloads)

    def _write_apart(self, payloads: Sequence[bytes]) -> Outcome:
        with own_connection(conf.database):
            return self._write(payloads)


def _in_test_case(connection: BaseDatabaseWrapper) -> bool:
    """Whether the innermost transaction is the one around a whole ``TestCase``, which is meant to roll back."""
    blocks = connection.atomic_blocks
    return bool(blocks) and blocks[-1]._from_testcase  # type: ignore[attr-defined]  # not in the stubs


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
