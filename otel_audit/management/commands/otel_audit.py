"""``manage.py otel_audit``: see whether the audit trail works, where its records are, and take a report of it."""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.utils import timezone

from otel_audit.conf import conf
from otel_audit.exceptions import SpoolError
from otel_audit.management.everywhere import accept_everywhere
from otel_audit.receiver import command as receiving

__all__ = ["Command"]

_COUNTS: Final = ("captured", "stored", "pending", "quarantined", "lost", "refused", "excluded", "oldest_pending_s")
#: A drain that moves nothing for this many seconds gives up.
_PATIENCE_S: Final = 30.0


class Command(BaseCommand):
    """Runs one of the subcommands."""

    help = "The audit trail: doctor, status, drain, report."
    # The settings are what the doctor is asked about, and draining must work whatever else is wrong.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the subcommands."""
        commands = parser.add_subparsers(
            dest="subcommand",
            required=True,
            metavar="doctor | status | drain | report | policy | mark | receive | token",
        )
        commands.add_parser("doctor", help="Send a record through the whole pipeline and say which step fails.")
        status = commands.add_parser("status", help="Say how many records were captured, stored, are pending or lost.")
        status.add_argument("--json", action="store_true", help="Print one JSON object.")
        drain = commands.add_parser("drain", help="Bring what lies in the spool into the audit database.")
        drain.add_argument("--watch", action="store_true", help='Go on until told to stop: for "DRAIN": "external".')
        drain.add_argument("--quarantined", action="store_true", help="Try again what was put aside.")
        drain.add_argument(
            "--timeout",
            type=_seconds,
            default=_PATIENCE_S,
            metavar="SECONDS",
            help="Give up when no record moves for so long (default: %(default)s).",
        )
        report = commands.add_parser("report", help="Write the audit report as PDF.")
        report.add_argument("-o", "--output", type=_file, required=True, metavar="FILE", help="The file to write.")
        report.add_argument(
            "--since", type=_moment, metavar="TIME", help="Leave out what began before: ISO date or time."
        )
        report.add_argument("--until", type=_moment, metavar="TIME", help="Leave out what began at or after.")
        commands.add_parser("mark", help="Print what stands in the place of a secret, read from standard input.")
        policy = commands.add_parser("policy", help="List the rules, or say which one decides about a request.")
        policy.add_argument("--explain", nargs=2, metavar=("METHOD", "PATH"), help="The request, as in GET /api/x/.")
        policy.add_argument("--route", help="Its route; looked up where this is not given.")
        policy.add_argument("--user", help="The name of who acts; an empty one for nobody.")
        policy.add_argument("--group", action="append", help="A group of who acts; may be given more than once.")
        policy.add_argument("--status", type=_status_code, help="The status code of the response.")
        receiving.add_receive(commands)
        receiving.add_token(commands)
        accept_everywhere(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand that was asked for."""
        try:
            getattr(self, f"_{options['subcommand']}")(options)
        except SpoolError as problem:  # says what to do itself
            raise CommandError(str(problem)) from problem

    # ── receiver ────────────────────────────────────────────────────────────────────────────────

    def _receive(self, options: dict[str, Any]) -> None:
        with _stop_signals():  # uvicorn sends itself the signal again when it has stopped
            receiving.receive(options, self._say)

    def _token(self, options: dict[str, Any]) -> None:
        receiving.token(options, self._say)

    # ── doctor ──────────────────────────────────────────────────────────────────────────────────

    def _doctor(self, options: dict[str, Any]) -> None:
        from otel_audit.doctor import FAILED, OK, SKIPPED, examine

        marks = {
            OK: self.style.SUCCESS(self._sign("✓", "ok")),
            FAILED: self.style.ERROR(self._sign("✗", "FAILED")),
            SKIPPED: self.style.NOTICE("-"),
        }
        failed = 0
        for result in examine():
            self._say(f"{marks[result.state]} {result.name}: {result.said}")
            for note in result.notes:
                self._say(f"    {note}")
            failed += result.state == FAILED
        if failed:
            raise CommandError(f"{failed} {'step' if failed == 1 else 'steps'} failed.")

    def _sign(self, sign: str, word: str) -> str:
        """Return ``sign``, or ``word`` for a terminal that cannot show it."""
        return sign if self._showable(sign) == sign else word

    def _say(self, text: str) -> None:
        """Print a line."""
        self.stdout.write(self._showable(text))

    def _showable(self, text: str) -> str:
        """Return ``text`` with question marks for what the terminal cannot show."""
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        return text.encode(encoding, "replace").decode(encoding)

    # ── status ──────────────────────────────────────────────────────────────────────────────────

    def _status(self, options: dict[str, Any]) -> None:
        from otel_audit import status
        from otel_audit_exporters.standing import uses_spool

        found = {**status(), "database": conf.database, "database_state": _database_state()}
        if options["json"]:
            self._say(json.dumps(found, default=str, sort_keys=True))
            return
        described = ("enabled", "delivery", "spool_dir", "database", "database_state")
        for key in (*described, *_COUNTS, *sorted(found.keys() - {*described, *_COUNTS})):
            if key in found:
                self._say(f"{key.replace('_', ' '):<20}{_shown(found[key])}")
        if not uses_spool():
            self._say("No spool is in use: each process of the site has counts of its own, which are not seen here.")

    # ── drain ───────────────────────────────────────────────────────────────────────────────────

    def _drain(self, options: dict[str, Any]) -> None:
        from otel_audit_exporters.directory import directory_problem
        from otel_audit_exporters.standing import uses_spool

        if not uses_spool():
            self._say(f"Nothing to drain: DELIVERY is {conf.delivery!r}.")
            return
        if not options["watch"] and not _is_there(conf.spool_dir):
            self._say(f"Nothing to drain: {conf.spool_dir} is not there.")
            return
        if (problem := directory_problem(conf.spool_dir)) is not None:  # else what nobody can read would count as empty
            raise CommandError(f"Nothing was drained. {problem} Run this command as the user that serves the site.")
        if options["quarantined"]:
            self._retry_quarantined()
        if options["watch"]:
            self._watch()
        else:
            self._drain_until_empty(options["timeout"])

    def _drain_until_empty(self, patience: float) -> None:
        from otel_audit_exporters.pipeline import pipeline

        left = pipeline.drain(patience)
        before = left + 1
        while 0 < left < before:  # something moved: go on, however much there is
            before, left = left, pipeline.drain(patience)
        if left:
            raise CommandError(
                f"{left} records are left in {conf.spool_dir}. manage.py otel_audit doctor says what is wrong."
            )
        self._say(f"{conf.spool_dir} is empty.")

    def _watch(self) -> None:
        from otel_audit_exporters.pipeline import pipeline
        from otel_audit_exporters.sinks import Sinks

        drainer = Sinks(pipeline.store)
        drainer.start()
        self._say(f"Draining {conf.spool_dir} until told to stop.")
        with _stop_signals() as stop:
            stop.wait()
        left = drainer.stop(_PATIENCE_S)
        self._say(f"Stopped; {left} records are left.")

    def _retry_quarantined(self) -> None:
        from otel_audit_exporters import quarantine
        from otel_audit_exporters.pipeline import pipeline
        from otel_audit_exporters.sinks import retry_quarantined
        from otel_audit_exporters.writer import RetryLaterError

        try:
            stored = retry_quarantined(pipeline.store)
        except RetryLaterError as error:
            who = "collector" if error.reason == "collector" else "audit database"
            raise CommandError(f"The {who} takes nothing now: {error}") from error
        left = len(quarantine.entries(conf.spool_dir, conf.fingerprint))
        self._say(f"{stored} records left the quarantine, {left} stay in it.")

    # ── report ──────────────────────────────────────────────────────────────────────────────────

    def _report(self, options: dict[str, Any]) -> None:
        since, until = options["since"], options["until"]
        if since is not None and until is not None and since >= until:
            raise CommandError(f"--since ({since.isoformat()}) has to be before --until ({until.isoformat()}).")
        try:
            pages = _write_report(options["output"], since, until)
        except (DatabaseError, ImproperlyConfigured) as error:
            alias = conf.database
            raise CommandError(
                f"The audit database {alias!r} is in trouble ({type(error).__name__}). "
                f"Start it, or run manage.py migrate --database {alias}."
            ) from error
        except OSError as error:
            raise CommandError(f"{options['output']} cannot be written: {_why(error, options['output'])}.") from error
        self._say(f"{options['output']}: {pages} {'page' if pages == 1 else 'pages'}.")

    # ── policy ──────────────────────────────────────────────────────────────────────────────────

    def _policy(self, options: dict[str, Any]) -> None:
        from otel_audit.explain import explain, listed
        from otel_audit.rules import Facts

        if options["explain"] is None:
            if given := [f"--{name}" for name in ("route", "user", "group", "status") if options[name] is not None]:
                raise CommandError(f"{' and '.join(given)} say nothing without --explain METHOD PATH.")
            for line in listed():
                self._say(line)
            return
        method, url = options["explain"]
        if not url.startswith("/"):
            raise CommandError(f"{url!r} is no path; write one that begins with a slash, as in GET /api/x/.")
        groups = None if options["group"] is None else frozenset(options["group"])
        facts = Facts(options["route"], options["user"], groups, options["status"])
        for line in explain(method.upper(), url.partition("?")[0], facts):
            self._say(line)

    # ── mark ────────────────────────────────────────────────────────────────────────────────────

    def _mark(self, options: dict[str, Any]) -> None:
        # Not from the command line, which every user of the machine can see.
        secret = getpass.getpass("Secret: ") if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
        marks = conf.redactor.marks(secret)
        if not marks:
            raise CommandError('There is no key: every mark is "[redacted]". Set OTEL_AUDIT["REDACT"]["hmac"].')
        for mark in marks:
            self._say(mark)


def _is_there(directory: Path) -> bool:
    try:
        return directory.exists()
    except OSError:  # nobody may look; what opens it says why
        return True


def _shown(value: Any) -> str:
    """Return a figure for the terminal; counts by name on one line."""
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {count}" for name, count in value.items())
    return "-" if value is None or value == "" else str(value)


def _write_report(output: Path, since: datetime | None, until: datetime | None) -> int:
    """Write the report under another name first, so that a file with its name is a whole one; for its owner only."""
    from otel_audit.reports import write_report

    if output.is_dir():  # said before a long report is made, not after
        raise IsADirectoryError
    fd, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    try:
        with os.fdopen(fd, "wb") as target:
            pages = write_report(target, since=since, until=until, generated_by=_caller())
        Path(name).replace(output)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return pages


def _why(error: OSError, output: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no directory {output.parent}"
    if isinstance(error, IsADirectoryError):
        return "it is a directory; name a file in it"
    return str(error.strerror)


def _caller() -> str:
    """Return who runs this command, as the report's cover names them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no entry in the password database, as in many containers
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _database_state() -> str:
    from otel_audit.checks.database import missing_migrations
    from otel_audit_exporters.database import own_connection

    alias = conf.database
    try:
        with own_connection(alias):
            missing = missing_migrations(alias)
    except (DatabaseError, ImproperlyConfigured) as error:
        return f"does not answer ({type(error).__name__})"
    return f"lacks migrations: {', '.join(missing)}; run manage.py migrate --database {alias}" if missing else "ready"


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set, in the main thread, where alone Python handles signals."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        seconds = float(text)
        if 0 < seconds < 86_400:
            return seconds
    raise ArgumentTypeError(f"{text!r} is no number of seconds between 0 and a day")


def _status_code(text: str) -> int:
    if re.fullmatch("[1-5][0-9][0-9]", text) is None:
        raise ArgumentTypeError(f"{text!r} is no status code; write 404")
    return int(text)


def _file(text: str) -> Path:
    if not text.strip():
        raise ArgumentTypeError("the name is empty; write audit-report.pdf")
    return Path(text)


def _moment(text: str) -> datetime:
    """Read an ISO date or time; without an offset it is in the site's time zone."""
    try:
        found = datetime.fromisoformat(text)
        return (timezone.make_aware(found) if timezone.is_naive(found) else found).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ArgumentTypeError(f"{text!r} is no ISO date or time; write 2026-11-24 or 2026-11-24T10:00") from error
