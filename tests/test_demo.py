"""``make demo`` as its users see it: the real script, a real server, real requests."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parent.parent / "demo" / "run.py"


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    environment.pop("XDG_RUNTIME_DIR", None)
    environment["SHOP_VAR"] = str(directory / "var")
    environment["HOME"] = str(directory)
    command = [sys.executable, str(RUN), "--report", str(directory / "audit-report.pdf"), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@dataclass(frozen=True)
class Demo:
    """What ``make demo ARGS=--once`` left behind."""

    status: int
    output: str
    directory: Path

    def rows(self, kind: str) -> list[str]:
        """Return the lines of the printed table that begin with ``kind``."""
        return [line for line in self.output.splitlines() if line.strip().startswith(kind)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    directory = tmp_path_factory.mktemp("demo")
    process = start(directory, "--once")
    output, _ = process.communicate(timeout=100)
    return Demo(process.returncode, output, directory)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with start(tmp_path) as process:
        yield process
        if process.poll() is None:
            process.terminate()


def read_until(process: subprocess.Popen[str], marker: str) -> str:
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if marker in line:
            return output
    raise AssertionError(f"{marker!r} never came:\n{output}")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_demo_succeeds(demo: Demo) -> None:
    assert demo.status == 0, demo.output


def test_each_request_that_was_sent_is_in_the_table(demo: Demo) -> None:
    found = re.search(r"It was sent (\d+) requests", demo.output)

    assert found, demo.output
    assert int(found[1]) >= 36
    assert len(demo.rows("request")) == int(found[1])


def test_the_table_has_a_column_for_each_question(demo: Demo) -> None:
    columns = next(line for line in demo.output.splitlines() if line.startswith("KIND"))

    assert re.split(r"\s{1,}(?!ID)", columns) == [
        "KIND",
        "ACTOR",
        "ACTION",
        "OUTCOME",
        "STATUS",
        "DURATION",
        "TRACE ID",
    ]


def test_the_table_names_actor_action_outcome_status_duration_and_trace(demo: Demo) -> None:
    row = re.compile(r"request +anna +POST /api/checkout/ +success +201 +\d+\.\d ms +[0-9a-f]{32}")

    assert any(row.fullmatch(line.strip()) for line in demo.rows("request")), demo.output


@pytest.mark.parametrize(
    "sign_in",
    [
        "Failed as 'anna' (simplejwt)",
        "Sign in (simplejwt)",
        "Refresh (simplejwt)",
        "Sign out (simplejwt)",
        "Failed as 'auditor' (session)",
        "Sign in (session)",
        "Sign out (session)",
    ],
)
def test_each_sign_in_and_sign_out_is_in_the_table(demo: Demo, sign_in: str) -> None:
    assert any(sign_in in line for line in demo.rows("sign-in")), "\n".join(demo.rows("sign-in"))


def test_the_product_fails_its_validation_once_and_is_then_created(demo: Demo) -> None:
    outcomes = [line.split("Create product")[1].split()[0] for line in demo.rows("process") if "Create product" in line]

    assert outcomes == ["failed", "succeeded"]


def test_a_registration_that_did_not_come_is_in_the_table(demo: Demo) -> None:
    assert any("No registration" in line for line in demo.rows("result")), demo.output


def test_the_crash_is_a_failure_with_its_error(demo: Demo) -> None:
    with closing(sqlite3.connect(demo.directory / "var" / "audit.sqlite3")) as audit:
        errors = audit.execute("SELECT error_type, outcome FROM otel_audit_requestauditevent WHERE status_code = 500")

        assert errors.fetchall() == [("ZeroDivisionError", "failure")] * 2


def test_no_secret_that_was_sent_is_stored(demo: Demo) -> None:
    stored = b"".join(path.read_bytes() for path in (demo.directory / "var").rglob("audit.sqlite3*"))

    assert b"5f4dcc3b5aa765d6" not in stored
    assert b"eyJhbGciOi" not in stored


def test_the_report_is_a_pdf(demo: Demo) -> None:
    report = demo.directory / "audit-report.pdf"

    assert report.read_bytes().startswith(b"%PDF-"), demo.output
    assert f"The PDF report: {report}" in demo.output


def test_the_demo_writes_into_its_own_directory_alone(demo: Demo) -> None:
    assert {path.name for path in demo.directory.iterdir()} == {"var", "audit-report.pdf"}


def test_the_demo_leaves_no_server_behind(demo: Demo) -> None:
    server = re.search(r"process (\d+)", demo.output)

    assert server, demo.output
    assert not is_running(int(server[1]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_serves_the_admin_until_it_is_stopped(serving: subprocess.Popen[str], number: signal.Signals) -> None:
    output = read_until(serving, "Ctrl-C stops the shop")
    address = re.search(r"The admin: (\S+)", output)
    server = re.search(r"process (\d+)", output)
    assert address and server
    with urllib.request.urlopen(address[1]) as page:
        assert page.status == 200

    serving.send_signal(number)

    assert serving.wait(30) == 0
    deadline = time.monotonic() + 5
    while is_running(int(server[1])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(server[1]))
