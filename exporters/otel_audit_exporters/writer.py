"""Writes rows into the audit database: in bulk, each record once, and without falling over a single bad one.

A row whose id is there already with the same hash is done; with another hash it is a conflict, never an
update. An intent whose id is there is done: its request left a record after all. When a batch fails because of
a row it is halved until that row stands alone. When the database itself is in trouble nothing is a row's fault:
the whole batch waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from opentelemetry import context
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY

from otel_audit.exceptions import OTelAuditError
from otel_audit.models import AuditEvent
from otel_audit_exporters import mapper
from otel_audit_exporters.database import insert_new, is_outage
from otel_audit_exporters.envelope import parse

__all__ = ["CONFLICT", "POISON", "Outcome", "Rejection", "RetryLaterError", "store", "without_spans", "write"]

#: Why a row was refused.
CONFLICT: Final = "conflict"
POISON: Final = "poison"


class RetryLaterError(OTelAuditError):
    """The sink takes nothing now; the records have to wait, for ``after_s`` seconds at least."""

    #: The word of the alarm.
    reason = "outage"
    after_s = 0.0


@dataclass(frozen=True, slots=True)
class Rejection:
    """One record that will never be stored as it is: its place in what was given, the reason and the error."""

    index: int
    reason: str
    error: str


@dataclass(slots=True)
class Outcome:
    """What became of a batch: how many are in the database now, and which were refused."""

    stored: int = 0
    rejections: list[Rejection] = field(default_factory=list)


def store(payloads: Sequence[bytes], using: str) -> Outcome:
    """Map sealed records to rows and write them: the drain's sink.

    Args:
        payloads: the JSON texts of the frames.
        using: alias of the audit database.

    Returns:
        The outcome per payload. What cannot be read or mapped is refused as poison, the others are stored.

    Raises:
        RetryLaterError: the database is in trouble; nothing has to be assumed stored.
    """
    outcome = Outcome()
    rows: list[AuditEvent] = []
    owners: list[int] = []
    intents: set[int] = set()
    for index, payload in enumerate(payloads):
        try:
            envelope = parse(payload)
            mapped = mapper.rows(envelope)
        except Exception as error:  # reading and mapping are pure: whatever goes wrong is this record's
            outcome.rejections.append(Rejection(index, POISON, f"{type(error).__name__}: {error}"))
            continue
        rows.extend(mapped)
        owners.extend([index] * len(mapped))
        if envelope["type"] == "intent":
            intents.add(index)
    refused = {owners[rejection.index]: rejection for rejection in write(rows, using).rejections}
    outcome.rejections += [
        Rejection(index, found.reason, found.error)
        for index, found in refused.items()
        if found.reason != CONFLICT or index not in intents
    ]
    outcome.stored = len(payloads) - len(outcome.rejections)
    return outcome


def write(rows: Sequence[AuditEvent], using: str) -> Outcome:
    """Insert ``rows``, each once, creating no spans.

    Args:
        rows: unsaved instances of the five models; ``stored_at`` is set here.
        using: alias of the audit database.

    Returns:
        How many are stored, which were refused and why, by their index in ``rows``.

    Raises:
        RetryLaterError: the database is in trouble; nothing has to be assumed stored.
    """
    outcome = Outcome()
    now = timezone.now()
    for row in rows:
        row.stored_at = now
    with without_spans():
        try:
            _write(list(enumerate(rows)), using, outcome)
        except Exception as error:
            if isinstance(error, RetryLaterError) or not is_outage(error):
                raise
            raise RetryLaterError(f"The audit database {using!r} takes no rows: {error}") from error
    outcome.stored = len(rows) - len(outcome.rejections)
    return outcome


def _write(numbered: list[tuple[int, AuditEvent]], using: str, outcome: Outcome) -> None:
    """Write a batch in one transaction; halve it when it fails because of a row."""
    if not numbered:
        return
    try:
        with transaction.atomic(using=using):
            conflicts = _insert(numbered, using)
    except Exception as error:
        if is_outage(error):
            raise
        if len(numbered) == 1:
            outcome.rejections.append(Rejection(numbered[0][0], POISON, f"{type(error).__name__}: {error}"))
            return
        middle = len(numbered) // 2
        _write(numbered[:middle], using, outcome)
        _write(numbered[middle:], using, outcome)
    else:
        outcome.rejections += conflicts


def _insert(numbered: list[tuple[int, AuditEvent]], using: str) -> list[Rejection]:
    """Insert what is not there yet; return the rows whose id is taken by a record with another hash."""
    by_model: dict[type[AuditEvent], list[tuple[int, AuditEvent]]] = {}
    for index, row in numbered:
        by_model.setdefault(type(row), []).append((index, row))
    conflicts: list[Rejection] = []
    for model, found in by_model.items():
        if not insert_new(model, [row for _, row in found], using):
            conflicts += _conflicts(model, found, using)
    return conflicts


def _conflicts(model: type[AuditEvent], numbered: list[tuple[int, AuditEvent]], using: str) -> Iterator[Rejection]:
    there: dict[Any, str] = dict(
        model._base_manager.using(using).filter(pk__in=[row.pk for _, row in numbered]).values_list("pk", "record_hash")
    )
    for index, row in numbered:
        if (stored := there.get(row.pk)) != row.record_hash:
            yield Rejection(index, CONFLICT, f"{model.__name__} {row.pk} is there with the hash {stored}.")


@contextmanager
def without_spans() -> Iterator[None]:
    """Switch instrumentation off: a span of our own insert would be audited and inserted, for ever."""
    quiet = context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True)
    token = context.attach(context.set_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY, True, quiet))
    try:
        yield
    finally:
        context.detach(token)
