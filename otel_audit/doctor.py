"""Sends one record through the whole pipeline of this site and says of each step whether it worked, and why not.

Each step is a small function with a time limit, run in a thread of its own, so that a database or collector that never
answers ends in a sentence too. A known trouble becomes a readable line, an unknown one its kind alone, with the
traceback in the log: what an exception says may hold a credential.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.checks import ERROR, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import connections

from otel_audit.attributes import SERVICE_UNKNOWN
from otel_audit.conf import conf
from otel_audit.exceptions import OTelAuditError
from otel_audit.forwarding import without_credentials

__all__ = ["FAILED", "OK", "SKIPPED", "STEPS", "Result", "Step", "Visit", "examine"]

logger = logging.getLogger("otel_audit.doctor")

OK: Final = "ok"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"

#: Name under which the doctor's own process stands in the audit trail.
NAME: Final = "otel_audit doctor"
STORED_WITHIN_S: Final = 15.0
#: What OpenTelemetry's exporters go on to say, and do not do here.
_RETRY: Final = re.compile(r"(?: encountered while exporting [a-z ]+)?, retrying in [0-9.]+s$")


@dataclass(slots=True)
class Visit:
    """What the steps hand on to each other."""

    record_id: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that has to work: returns a sentence, or raises `StepFailedError` or `NothingToDoError`."""

    name: str
    run: Callable[[Visit], str]
    seconds: float
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """How a step went: `OK`, `FAILED` or `SKIPPED`, a sentence, and what else should be known."""

    name: str
    state: str
    said: str
    notes: tuple[str, ...] = ()


class StepFailedError(OTelAuditError):
    """A step failed for a reason that can be said, with what to do."""


class NothingToDoError(OTelAuditError):
    """A step has nothing to do on this site."""


def examine(steps: Sequence[Step] | None = None) -> Iterator[Result]:
    """Run the steps in order and yield the result of each; one whose needs failed is skipped."""
    visit = Visit()
    worked: set[str] = set()
    for step in STEPS if steps is None else steps:
        lacking = [name for name in step.needs if name not in worked]
        if lacking:
            yield Result(step.name, SKIPPED, f"Not tried: it needs {', '.join(map(repr, lacking))}.")
            continue
        visit.notes.clear()
        result = _tried(step, visit)
        if result.state == OK:
            worked.add(step.name)
        yield result


def _tried(step: Step, visit: Visit) -> Result:
    state = FAILED
    try:
        said = _limited(lambda: step.run(visit), step.seconds)
        state = OK
    except NothingToDoError as reason:
        state, said = SKIPPED, str(reason)
    except TimeoutError:
        said = f"There was no answer within {step.seconds:.0f} s."
    except OTelAuditError as problem:
        said = without_credentials(str(problem))
    except Exception as error:  # the edge of the command: whatever a step meets, the others are still tried
        logger.exception("otel_audit doctor failed in %r", step.name)
        said = f"It failed with {type(error).__name__}; the log has the traceback."
    return Result(step.name, state, said, tuple(visit.notes))


def _limited(run: Callable[[], str], seconds: float) -> str:
    """Run in a daemon thread, which a hanging step cannot keep the command from leaving behind."""
    future: Future[str] = Future()

    def work() -> None:
        try:
            future.set_result(run())
        except BaseException as error:  # handed on to the caller, who raises it
            future.set_exception(error)
        finally:
            connections.close_all()  # this thread's own

    threading.Thread(target=work, name="otel-audit-doctor", daemon=True).start()
    return future.result(seconds)


# ── the steps ───────────────────────────────────────────────────────────────────────────────────


def check_settings(visit: Visit) -> str:
    """Run the checks; warnings are noted, errors fail."""
    found = run_checks(tags=["otel_audit"])
    visit.notes.extend(f"{message.id}: {message.msg} {message.hint}" for message in found)
    errors = sum(message.level >= ERROR for message in found)
    if errors:
        raise StepFailedError(f"{errors} of them {'is' if errors == 1 else 'are'} wrong; the checks say what to write.")
    return f"No error, {len(found)} {'warning' if len(found) == 1 else 'warnings'}."


def look_at_spool(_visit: Visit) -> str:
    """Look whether the spool directory can be used; it is made if it is missing."""
    if conf.delivery != "spool":
        raise NothingToDoError(f'OTEL_AUDIT["DELIVERY"] is {conf.delivery!r}.')
    from otel_audit_exporters.directory import directory_problem

    if (problem := directory_problem(conf.spool_dir)) is not None:
        raise StepFailedError(problem)
    return f"{conf.spool_dir} can be used."


def ask_database(_visit: Visit) -> str:
    """Ask the audit database whether it has the tables of this version."""
    from otel_audit.checks.database import missing_migrations

    alias = conf.database
    with _audit_database():
        missing = missing_migrations(alias)
    if missing:
        raise StepFailedError(
            f"{alias!r} lacks the migrations {', '.join(missing)}. Run manage.py migrate --database {alias}."
        )
    return f"{alias!r} answers and has its tables."


def write_record(visit: Visit) -> str:
    """Record a process with one step and one registration, as any code of the site would."""
    from otel_audit import actor, process

    if not conf.enabled:
        raise StepFailedError('OTEL_AUDIT["ENABLED"] is False: nothing is recorded. Remove it to record again.')
    if conf.delivery == "memory":
        raise StepFailedError(
            'OTEL_AUDIT["DELIVERY"] is "memory": nothing is stored. Remove it to store records again.'
        )
    description = "Shows that a record reaches the audit database."
    with actor("system", NAME), process(NAME, description) as running, running.step("Write a record") as step:
        registered = step.register(True, "written")
    if running.id is None or registered is None:
        raise StepFailedError("Nothing was captured; the log of otel_audit says why.")
    visit.record_id = running.id
    return f"Process {running.id} was captured, for delivery by {conf.delivery}."


def read_record(visit: Visit) -> str:
    """Read the process, its step and its registration back from the audit database."""
    from otel_audit import flush
    from otel_audit.models import ProcessAuditEvent, RegistrationAuditEvent, StepAuditEvent

    began = time.monotonic()
    left = flush(STORED_WITHIN_S)
    alias = conf.database
    with _audit_database():
        processes = list(ProcessAuditEvent.objects.using(alias).filter(pk=visit.record_id))
        steps = StepAuditEvent.objects.using(alias).filter(process_id=visit.record_id)
        registrations = RegistrationAuditEvent.objects.using(alias).filter(step_id__in=[row.pk for row in steps])
        found = (len(processes), len(steps), registrations.count())
    took = time.monotonic() - began
    if found != (1, 1, 1):
        raise StepFailedError(
            f"Of process, step and registration {sum(map(bool, found))} of 3 are in {alias!r} after {took:.0f} s; "
            f"{left} records wait. manage.py otel_audit status shows where; the log of otel_audit.delivery says why."
        )
    if processes[0].service_name.startswith(SERVICE_UNKNOWN):
        visit.notes.append('This service has no name in its records: write OTEL_AUDIT = {"SERVICE_NAME": "shop"}.')
    return f"Process, step and registration are in {alias!r}, after {took * 1000:.0f} ms."


def render_report(visit: Visit) -> str:
    """Render what was read back in memory, with the fonts and drawing of the whole report."""
    from otel_audit.reports import write_process

    target = io.BytesIO()
    pages = write_process(target, visit.record_id, generated_by=NAME)
    if not target.getvalue().startswith(b"%PDF-"):
        raise StepFailedError("What was rendered is no PDF.")
    return f"A PDF of {pages} {'page' if pages == 1 else 'pages'}, {len(target.getvalue()):,} bytes."


def send_span(_visit: Visit) -> str:
    """Send one span to the collector, by an exporter of its own."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    from otel_audit.provider import private_tracer
    from otel_audit_exporters.otlp import collector_exporter

    exporter = collector_exporter()
    if exporter is None:
        raise NothingToDoError("No collector is configured.")
    span: Any = private_tracer().start_span(NAME)
    span.end()
    with _reasons() as reasons:
        result = exporter.export([span])
        exporter.shutdown()
    if result is not SpanExportResult.SUCCESS:
        reason = _RETRY.sub("", reasons[0]) if reasons else "no reason was given"
        raise StepFailedError(
            f'It did not take a span: {reason}. Start it, or correct OTEL_AUDIT["OTLP"] or the variables '
            "OTEL_EXPORTER_OTLP_*; the audit tables do not need it."
        )
    return f"It took the span of trace {span.get_span_context().trace_id:032x}."


STEPS: Final = (
    Step("Settings", check_settings, 30),
    Step("Spool directory", look_at_spool, 5),
    Step("Audit database", ask_database, 15),
    Step("Record written", write_record, 35),
    Step("Record read back", read_record, STORED_WITHIN_S + 15, needs=("Audit database", "Record written")),
    Step("Report rendered", render_report, 60, needs=("Audit database",)),
    Step("Collector", send_span, 30),
)


@contextmanager
def _audit_database() -> Iterator[None]:
    """Use the audit database inside the block, on a connection with time limits; say so where it is in trouble."""
    from otel_audit_exporters.database import own_connection

    alias = conf.database
    try:
        with own_connection(alias):
            yield
    except (DatabaseError, ImproperlyConfigured) as error:
        reason = " ".join(str(error).split())
        raise StepFailedError(
            f"{alias!r} is in trouble ({type(error).__name__}: {reason}). Start it, correct DATABASES[{alias!r}], or "
            f"run manage.py migrate --database {alias}."
        ) from error


@contextmanager
def _reasons() -> Iterator[list[str]]:
    """Collect what OpenTelemetry's exporters log inside the block: they say why nowhere else."""
    reasons: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reasons.append(record.getMessage().strip().rstrip("."))

    handler = Collect(logging.WARNING)
    source = logging.getLogger("opentelemetry")
    source.addHandler(handler)
    try:
        yield reasons
    finally:
        source.removeHandler(handler)
