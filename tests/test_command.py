"""``manage.py otel_audit``: the doctor says which step fails and why, the others do what they say."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command, load_command_class
from django.core.management.base import CommandError
from django.test import override_settings
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from pypdf import PdfReader

from otel_audit import doctor, process
from otel_audit.conf import conf
from otel_audit.models import ProcessAuditEvent
from otel_audit_exporters import quarantine
from otel_audit_exporters.drain import Drainer
from otel_audit_exporters.segments import RECORD, Segment
from otel_audit_exporters.writer import RetryLaterError
from tests.empty_database import no_tables

__all__ = ["no_tables"]

SECRET = "hunter2"
ALIASES = ["default", "audit"]


def run(*arguments: str) -> str:
    """Run the command; return what it prints."""
    out = io.StringIO()
    call_command("otel_audit", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def fail(*arguments: str) -> tuple[str, str]:
    """Run the command, which has to fail; return what it prints and the reason."""
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("otel_audit", *arguments, stdout=out, no_color=True)
    assert caught.value.returncode == 1
    return out.getvalue(), str(caught.value)


def lines(printed: str) -> dict[str, tuple[str, str]]:
    """Return the doctor's lines: step → mark and sentence."""
    found = [line.partition(": ") for line in printed.splitlines() if not line.startswith(" ")]
    return {head[2:]: (head[0], said) for head, _, said in found}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


class Collector(ThreadingHTTPServer):
    """An OTLP/HTTP endpoint that answers with one status."""

    def __init__(self, status: int) -> None:
        self.received: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                self.received.append(handler.rfile.read(int(handler.headers["Content-Length"])))
                handler.send_response(status)
                handler.end_headers()

            def log_message(handler, *args: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"


@pytest.fixture
def collector() -> Iterator[Callable[[int], Collector]]:
    """Start collectors that answer with a status."""
    started: list[Collector] = []

    def start(status: int) -> Collector:
        server = Collector(status)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(
    tmp_path: Path,
    collector: Callable[[int], Collector],
    monkeypatch: pytest.MonkeyPatch,
    fresh_pipeline: None,
) -> Iterator[Callable[..., Any]]:
    """Settings of a site with a spool of its own that only the command drains, and a provider of its own.

    Forwarding is added to the provider for good; this one ends while the test's collector still listens.
    """
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    spool = tmp_path / "spool"
    written: dict[str, Any] = {"DATABASE": "audit", "DELIVERY": "spool", "SPOOL_DIR": spool, "DRAIN": "external"}

    def change(**changes: Any) -> Any:
        return override_settings(OTEL_AUDIT={**written, **changes})

    with change():
        yield change
    provider.shutdown()


# ── doctor ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("delivery", ["spool", "sync"])
def test_a_sound_site_passes_every_step(
    delivery: str, site: Callable[..., Any], collector: Callable[[int], Collector]
) -> None:
    server = collector(200)

    with site(DELIVERY=delivery, OTLP={"endpoint": server.url}):
        printed = lines(run("doctor"))

    assert list(printed) == [step.name for step in doctor.STEPS]
    assert {mark for mark, _ in printed.values()} == ({"✓"} if delivery == "spool" else {"✓", "-"})
    assert printed["Audit database"][1] == "'audit' answers and has its tables."
    assert printed["Record read back"][1].startswith("Process, step and registration are in 'audit', after ")
    assert printed["Report rendered"][1].startswith("A PDF of 1 page, ")
    assert printed["Collector"][1].startswith("It took the span of trace ")
    assert server.received
    (row,) = ProcessAuditEvent.objects.using("audit").all()
    assert (row.name, row.actor_type, row.actor_name) == (doctor.NAME, "system", doctor.NAME)


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_without_a_collector_that_step_is_not_tried(site: Callable[..., Any]) -> None:
    printed = lines(run("doctor"))

    assert printed["Collector"] == ("-", "No collector is configured.")


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("name", [None, "till"])
def test_a_service_without_a_name_is_told_what_to_write(
    site: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)

    with site(SERVICE_NAME=name):
        printed = run("doctor")

    assert ('write OTEL_AUDIT = {"SERVICE_NAME": "shop"}' in printed) == (name is None)


@pytest.mark.usefixtures("no_tables")
def test_a_database_without_tables_fails_with_what_to_do(site: Callable[..., Any]) -> None:
    out, reason = fail("doctor")

    printed = lines(out)
    assert printed["Audit database"][0] == "✗"
    assert printed["Audit database"][1].startswith("'audit' lacks the migrations 0001_")
    assert printed["Audit database"][1].endswith("Run manage.py migrate --database audit.")
    assert printed["Record written"][0] == "✓"
    assert printed["Record read back"] == ("-", "Not tried: it needs 'Audit database'.")
    assert reason == "1 step failed."


def test_a_database_that_is_not_there_fails_with_what_to_do(
    site: Callable[..., Any], no_tables: dict[str, Any], tmp_path: Path
) -> None:
    no_tables["NAME"] = str(tmp_path / "nowhere" / "audit.sqlite3")

    out, _ = fail("doctor")

    mark, said = lines(out)["Audit database"]
    assert mark == "✗"
    assert "OperationalError: unable to open database file" in said
    assert "Start it, correct DATABASES['audit'], or" in said


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize(
    ("changes", "step", "said"),
    [
        ({"ENABLED": False}, "Record written", "is False: nothing is recorded. Remove it"),
        ({"DELIVERY": "memory"}, "Record written", '"DELIVERY"] is "memory": nothing is stored. Remove it'),
        ({"OTLP": {"endpoint": "http://127.0.0.1:9/v1/traces", "timeout": 1}}, "Collector", "did not take a span: "),
    ],
)
def test_a_step_that_fails_says_why(changes: dict[str, Any], step: str, said: str, site: Callable[..., Any]) -> None:
    with site(**changes):
        out, reason = fail("doctor")

    mark, sentence = lines(out)[step]
    assert mark == "✗"
    assert said in sentence
    assert reason == "1 step failed."


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_a_collector_that_refuses_is_named_with_its_answer_and_without_the_header(
    site: Callable[..., Any], collector: Callable[[int], Collector]
) -> None:
    with site(OTLP={"endpoint": collector(401).url, "headers": {"authorization": f"Bearer {SECRET}"}}):
        out, _ = fail("doctor")

    assert "It did not take a span: " in lines(out)["Collector"][1]
    assert 'correct OTEL_AUDIT["OTLP"]' in lines(out)["Collector"][1]
    assert "401" in lines(out)["Collector"][1]
    assert SECRET not in out


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_wrong_settings_are_named_by_their_checks(site: Callable[..., Any]) -> None:
    with site(REDACTED=["ssn"], RESOLVE_ACTOR="no"):
        out, reason = fail("doctor")

    assert lines(out)["Settings"] == ("✗", "2 of them are wrong; the checks say what to write.")
    assert "    otel_audit.E002: OTEL_AUDIT has the unknown key 'REDACTED'; it has no effect. Write 'REDACT'" in out
    assert "    otel_audit.E019: OTEL_AUDIT['RESOLVE_ACTOR'] is wrong: 'no' is neither True nor False." in out
    assert reason == "1 step failed."


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_a_spool_directory_of_no_use_is_named_and_the_record_arrives_all_the_same(
    site: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir(mode=0o755)

    with site(SPOOL_DIR=tmp_path / "open"):
        out, _ = fail("doctor")

    printed = lines(out)
    assert printed["Spool directory"][0] == "✗"
    assert "is open to others (mode 0755): chmod 700 it" in printed["Spool directory"][1]
    assert printed["Record read back"][0] == "✓"


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_a_record_that_does_not_arrive_is_named_with_how_many_wait(
    site: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_nothing(payloads: Any) -> Any:
        raise RetryLaterError("the database takes nothing now")

    monkeypatch.setattr(doctor, "STORED_WITHIN_S", 0.2)
    holder = Drainer(conf.spool_dir, conf.fingerprint, take_nothing)
    holder.start()
    time.sleep(0.2)  # it holds the spool's lock by now

    out, _ = fail("doctor")

    holder.stop(5)
    mark, said = lines(out)["Record read back"]
    assert mark == "✗"
    assert said.startswith("Of process, step and registration 0 of 3 are in 'audit' after 0 s; 3 records wait.")


def test_a_step_that_never_answers_ends_at_its_limit() -> None:
    asked = threading.Event()

    def wait(_visit: doctor.Visit) -> str:
        asked.wait(30)
        return ""

    (result,) = doctor.examine([doctor.Step("Black hole", wait, 0.05)])
    asked.set()

    assert result == doctor.Result("Black hole", doctor.FAILED, "There was no answer within 0 s.")


def test_an_unknown_failure_shows_its_kind_alone(caplog: pytest.LogCaptureFixture) -> None:
    def burst(_visit: doctor.Visit) -> str:
        raise KeyError(SECRET)

    (result,) = doctor.examine([doctor.Step("Surprise", burst, 5)])

    assert result.said == "It failed with KeyError; the log has the traceback."
    assert "Traceback" in caplog.text


def test_a_terminal_without_the_signs_gets_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fall(_visit: doctor.Visit) -> str:
        raise doctor.StepFailedError("Down…")

    steps = (doctor.Step("Stand", lambda _visit: "Fine…", 5), doctor.Step("Fall", fall, 5))
    monkeypatch.setattr(doctor, "STEPS", steps)
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="ascii", write_through=True)

    with pytest.raises(CommandError):
        call_command("otel_audit", "doctor", stdout=terminal)

    assert raw.getvalue().splitlines() == [b"ok Stand: Fine?", b"FAILED Fall: Down?"]


def test_the_doctor_of_a_real_process_drains_in_the_background(tmp_path: Path) -> None:
    code = (
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('migrate', database='audit', verbosity=0)\n"
        "call_command('otel_audit', 'doctor')\n"
    )
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert lines(done.stdout)["Record read back"][0] == "✓"


# ── status ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_status_counts_what_waits_and_what_is_stored(site: Callable[..., Any]) -> None:
    with process("Wait"):
        pass

    waiting = json.loads(run("status", "--json"))
    run("drain")
    stored = json.loads(run("status", "--json"))

    assert (waiting["pending"], waiting["stored"], waiting["refused"]) == (1, 0, 0)
    assert (stored["pending"], stored["stored"]) == (0, 1)
    assert (waiting["oldest_pending_s"] > 0, stored["oldest_pending_s"]) == (True, None)
    for found in (waiting, stored):
        assert found["captured"] == found["stored"] + found["pending"] + found["quarantined"] + found["lost"]
        assert found["database_state"] == "ready"


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_status_is_readable_too(site: Callable[..., Any]) -> None:
    printed = run("status")

    heads = [line[:20].strip() for line in printed.splitlines()]
    assert heads[:13] == [
        *("enabled", "delivery", "spool dir", "database", "database state"),
        *("captured", "stored", "pending", "quarantined", "lost", "refused", "excluded", "oldest pending s"),
    ]
    assert "None" not in printed


def test_status_says_how_the_database_is(site: Callable[..., Any], no_tables: dict[str, Any], tmp_path: Path) -> None:
    empty = json.loads(run("status", "--json"))["database_state"]
    no_tables["NAME"] = str(tmp_path / "nowhere" / "audit.sqlite3")
    gone = json.loads(run("status", "--json"))["database_state"]

    assert empty.startswith("lacks migrations: 0001_")
    assert empty.endswith("run manage.py migrate --database audit")
    assert gone == "does not answer (OperationalError)"


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_status_without_a_spool_says_that_counts_are_not_seen(site: Callable[..., Any]) -> None:
    with site(DELIVERY="sync"):
        printed = run("status")

    assert "No spool is in use" in printed


# ── drain ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("delivery", ["sync", "memory"])
def test_without_a_spool_there_is_nothing_to_drain(delivery: str, site: Callable[..., Any]) -> None:
    with site(DELIVERY=delivery):
        printed = run("drain")

    assert printed == f"Nothing to drain: DELIVERY is {delivery!r}.\n"


def test_a_spool_that_is_not_there_is_drained(site: Callable[..., Any], tmp_path: Path) -> None:
    printed = run("drain")

    assert printed == f"Nothing to drain: {tmp_path / 'spool'} is not there.\n"
    assert not (tmp_path / "spool").exists()


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_drain_brings_every_record_into_the_database(site: Callable[..., Any], tmp_path: Path) -> None:
    for number in range(3):
        with process(f"Wait {number}"):
            pass
    before = ProcessAuditEvent.objects.using("audit").count()

    printed = run("drain")

    assert before == 0
    assert printed == f"{tmp_path / 'spool'} is empty.\n"
    assert ProcessAuditEvent.objects.using("audit").count() == 3


@pytest.mark.usefixtures("no_tables")
def test_drain_fails_when_records_are_left(site: Callable[..., Any], tmp_path: Path) -> None:
    with process("Wait"):
        pass

    _, reason = fail("drain", "--timeout", "0.2")

    assert reason == f"1 records are left in {tmp_path / 'spool'}. manage.py otel_audit doctor says what is wrong."


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_what_was_put_aside_is_tried_again(site: Callable[..., Any], tmp_path: Path) -> None:
    with process("Wait"):
        pass
    (segment,) = (tmp_path / "spool").glob("*.segment")
    payload = _payload_of(segment)
    entries = [
        quarantine.Entry("poison", "", segment.name, offset, "database", data)
        for offset, data in ((1, payload), (2, b'{"type":"span","kind":"nothing"}'))
    ]
    quarantine.add(tmp_path / "spool", conf.fingerprint, entries)

    printed = run("drain", "--quarantined")

    assert "1 records left the quarantine, 1 stay in it." in printed
    assert ProcessAuditEvent.objects.using("audit").count() == 1


def _payload_of(segment: Path) -> bytes:
    with Segment(segment) as opened:
        return next(found.payload for found in opened.frames(0) if found.kind == RECORD)


@pytest.mark.usefixtures("no_tables")
def test_what_was_put_aside_waits_for_the_database(site: Callable[..., Any], tmp_path: Path) -> None:
    with process("Wait"):
        pass
    (segment,) = (tmp_path / "spool").glob("*.segment")
    entry = quarantine.Entry("poison", "", segment.name, 1, "database", _payload_of(segment))
    quarantine.add(tmp_path / "spool", conf.fingerprint, [entry])

    _, reason = fail("drain", "--quarantined")

    assert reason.startswith("The audit database takes nothing now: ")


@pytest.mark.parametrize("arguments", [(), ("--quarantined",)])
def test_a_directory_that_cannot_be_used_is_not_called_empty(
    arguments: tuple[str, ...], site: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir(mode=0o755)

    with site(SPOOL_DIR=tmp_path / "open"):
        printed, reason = fail("drain", *arguments)

    assert printed == ""
    assert "is open to others (mode 0755): chmod 700 it" in reason
    assert "as the user that serves the site" in reason


def test_a_watching_drain_refuses_a_directory_of_no_use(site: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)

    with site(SPOOL_DIR=tmp_path / "open"):
        _, reason = fail("drain", "--watch")

    assert "is open to others" in reason


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_watching_drain_stores_until_it_is_told_to_stop(number: int, tmp_path: Path) -> None:
    code = (
        "import django, sys; django.setup()\n"
        "from django.core.management import call_command\n"
        "from otel_audit import process\n"
        "call_command('migrate', database='audit', verbosity=0)\n"
        "with process('Wait'): pass\n"
        "call_command('otel_audit', 'drain', '--watch')\n"
        "call_command('otel_audit', 'status', '--json')\n"
    )
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    running = subprocess.Popen([sys.executable, "-uc", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None

    began = running.stdout.readline()
    time.sleep(1)
    running.send_signal(number)
    rest, _ = running.communicate(timeout=30)

    assert began.startswith("Draining ")
    assert "Stopped; 0 records are left." in rest
    assert json.loads(rest.splitlines()[-1])["stored"] == 1
    assert running.returncode == 0


def test_a_drain_that_watches_in_a_thread_takes_no_signals() -> None:
    from otel_audit.management.commands.otel_audit import _stop_signals

    handlers: list[Any] = []

    def enter() -> None:
        with _stop_signals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()

    assert handlers == [before]


# ── report ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_the_report_is_a_pdf_for_its_owner_that_names_who_took_it(site: Callable[..., Any], tmp_path: Path) -> None:
    with site(DELIVERY="sync"), process("Create product"):
        pass

    printed = run("report", "-o", str(tmp_path / "audit.pdf"))

    found = PdfReader(tmp_path / "audit.pdf")
    assert printed == f"{tmp_path / 'audit.pdf'}: {len(found.pages)} pages.\n"
    assert (tmp_path / "audit.pdf").stat().st_mode & 0o777 == 0o600
    assert "@" in str(found.metadata.author if found.metadata else "")
    assert "Create product" in "".join(page.extract_text() for page in found.pages)


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize(
    ("arguments", "is_in_it"),
    [
        (("--since", "2020-01-01"), True),
        (("--since", "2020-01-01T10:00+02:00", "--until", "2100-01-01"), True),
        (("--until", "2020-01-01"), False),
        (("--since", "2100-01-01T00:00"), False),
    ],
)
def test_the_report_is_narrowed_by_time(
    arguments: tuple[str, ...], is_in_it: bool, site: Callable[..., Any], tmp_path: Path
) -> None:
    with site(DELIVERY="sync"), process("Create product"):
        pass

    run("report", "-o", str(tmp_path / "audit.pdf"), *arguments)

    text = "".join(page.extract_text() for page in PdfReader(tmp_path / "audit.pdf").pages)
    assert ("Create product" in text) == is_in_it


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "'yesterday' is no ISO date or time; write 2026-11-24 or 2026-11-24T10:00"),
        (("--since", "0001-01-01T00:00+14:00"), "'0001-01-01T00:00.14:00' is no ISO date or time"),
        (("--since", "2026-02-01", "--until", "2026-01-01"), "has to be before --until"),
    ],
)
def test_a_wrong_time_is_named(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=said):
        run("report", "-o", str(tmp_path / "audit.pdf"), *arguments)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_tables")
def test_a_report_without_a_database_leaves_no_file(site: Callable[..., Any], tmp_path: Path) -> None:
    _, reason = fail("report", "-o", str(tmp_path / "audit.pdf"))

    assert reason.startswith("The audit database 'audit' is in trouble (OperationalError). Start it, or run manage.py")
    assert not [path for path in tmp_path.iterdir() if "audit.pdf" in path.name]


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"

    assert fail("report", "-o", str(missing / "a.pdf"))[1] == (
        f"{missing / 'a.pdf'} cannot be written: there is no directory {missing}."
    )
    assert fail("report", "-o", str(tmp_path))[1] == (
        f"{tmp_path} cannot be written: it is a directory; name a file in it."
    )
    with pytest.raises(CommandError, match=r"the name is empty; write audit-report\.pdf"):
        run("report", "-o", "")


def test_a_user_without_a_name_is_named_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from otel_audit.management.commands.otel_audit import _caller

    def no_name() -> str:
        raise OSError("no entry")

    monkeypatch.setattr("getpass.getuser", no_name)

    assert _caller().startswith(f"uid {os.getuid()}@")


@pytest.mark.parametrize("text", ["0", "-1", "100000", "soon", "nan"])
def test_a_wrong_timeout_is_named(text: str) -> None:
    with pytest.raises(CommandError, match="is no number of seconds between 0 and a day"):
        run("drain", f"--timeout={text}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--explain", "GET", "/x/", "--status", "teapot"), "'teapot' is no status code; write 404"),
        (("--explain", "GET", "/x/", "--status", "999"), "'999' is no status code; write 404"),
        (("--explain", "GET", "x/"), "'x/' is no path; write one that begins with a slash, as in GET /api/x/"),
        (("--route", "x/", "--user", "anna"), "--route and --user say nothing without --explain METHOD PATH"),
    ],
)
def test_a_wrong_question_about_the_policy_says_what_to_write(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError, match=re.escape(said)):
        run("policy", *arguments)


def test_a_command_without_a_subcommand_says_which_there_are() -> None:
    with pytest.raises(CommandError, match=r"doctor \| status \| drain \| report"):
        call_command("otel_audit")


@pytest.mark.parametrize(
    "line",
    [
        "drain --settings tests.settings --no-color -v 1",
        "-v 1 drain --settings=tests.settings --pythonpath . --traceback",
        "--settings tests.settings drain",
    ],
)
def test_djangos_options_may_stand_before_and_after_the_subcommand(line: str) -> None:
    parser = load_command_class("otel_audit", "otel_audit").create_parser("manage.py", "otel_audit")

    options = parser.parse_args(line.split())

    assert (options.subcommand, options.settings, options.verbosity) == ("drain", "tests.settings", 1)


def test_djangos_options_may_stand_after_an_action_of_a_subcommand() -> None:
    parser = load_command_class("otel_audit", "otel_audit").create_parser("manage.py", "otel_audit")

    options = parser.parse_args(["token", "list", "--settings", "tests.settings", "--verbosity", "3"])

    assert (options.action, options.settings, options.verbosity) == ("list", "tests.settings", 3)


def test_the_command_does_not_stop_at_wrong_settings() -> None:
    code = (
        "from django.core.management import execute_from_command_line\n"
        "from tests import settings\n"
        "settings.OTEL_AUDIT = {'NOTHING': 1, 'DELIVERY': 'sync'}\n"
        "execute_from_command_line(['manage.py', 'otel_audit', 'drain'])\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "Nothing to drain: DELIVERY is 'sync'.\n"), done.stderr
