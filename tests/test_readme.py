"""The README keeps its word: its settings make a site, its Python runs there, its table names every setting."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from otel_audit.conf import DEFAULTS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SETTINGS = [block for block in BLOCKS if re.match(r"INSTALLED_APPS|DATABASES|OTEL_AUDIT", block)]
RECORDING = [block for block in SETTINGS if '"OTLP"' not in block]
CODE = [block for block in BLOCKS if block not in SETTINGS]
#: What is typed, without the one command that serves until it is stopped.
COMMANDS = re.findall(r"^python (manage\.py (?!otel_audit receive).*?)(?: +#.*)?$", README, re.MULTILINE)
OWN_DATABASE = "manage.py migrate --database audit"

SITE = """
from pathlib import Path
BASE_DIR = Path(__file__).parent
SECRET_KEY = "a-key-for-the-readme-alone-that-is-long-enough"
ROOT_URLCONF = "site_urls"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "rest_framework"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "site.sqlite3"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
"""
URLS = """
from django.http import JsonResponse
from django.urls import path
from rest_framework_simplejwt.views import TokenObtainPairView
urlpatterns = [
    path("api/products/", lambda request: JsonResponse({"id": 1}, status=201)),
    path("api/token/", TokenObtainPairView.as_view()),
]
"""
CONFTEST = """
import pytest
@pytest.fixture(autouse=True)
def _database(db): pass
"""
#: Runs each argument as a command line of its own, as ``manage.py`` does.
MANAGE = """
import sys
from django.core.management import execute_from_command_line
for line in sys.argv[1:]:
    print("$", line, flush=True)
    execute_from_command_line(line.split())
"""
CALLS = """
import contextlib
from django.test import RequestFactory
from otel_audit.testing import capture

def test_the_functions_of_the_readme():
    with capture() as records:
        create_product({"sku": "A-1", "price": 3})
        nightly_import()
        reserve_stock({})
        CreateProductProcessAudit(RequestFactory().get("/")).register_validation(True)
    assert [row.name for row in records.processes] == [
        "Create product", "Nightly import", "Reserve stock", "Create product"]
    assert len(records.steps) == 5
    assert len(records.registrations) == 6
"""


def write_settings(site: Path, blocks: list[str], *more: str) -> None:
    """Write the settings of a site that has followed these blocks, each of which adds to ``OTEL_AUDIT``."""
    added = [f"{block}\nAUDIT |= globals().pop('OTEL_AUDIT', {{}})\n" for block in blocks]
    text = "\n".join([SITE, "AUDIT = {}", *added, "OTEL_AUDIT = AUDIT", *more])
    (site / "site_settings.py").write_text(text, encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write_settings(tmp_path, SETTINGS)
    (tmp_path / "site_urls.py").write_text(URLS, encoding="utf-8")
    return tmp_path


def run(site: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "OTEL_AUDIT_SPOOL_DIR": str(site / "spool"),
    }
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_audit_trail_takes_at_most_five_lines_of_settings() -> None:
    lines = [line for block in RECORDING for line in block.splitlines() if line.strip()]

    assert len(lines) <= 5


def test_the_settings_of_the_readme_pass_the_checks(site: Path) -> None:
    said = run(site, "-c", MANAGE, "manage.py check --fail-level WARNING")

    assert "no issues (0 silenced)" in said


def test_two_lines_and_the_commands_behind_them_give_a_trail_in_the_default_database(site: Path) -> None:
    write_settings(site, RECORDING[:1])

    said = run(site, "-c", MANAGE, *COMMANDS[: COMMANDS.index(OWN_DATABASE)])

    assert RECORDING[0].count("\n") == 2
    assert "✗" not in said
    assert "✓ Record read back: Process, step and registration are in 'default'" in said
    assert (site / "audit-report.pdf").read_bytes().startswith(b"%PDF-")


def test_the_commands_behind_that_run_on_a_site_with_an_audit_database_of_its_own(site: Path) -> None:
    write_settings(site, RECORDING, 'INSTALLED_APPS += ["otel_audit.receiver"]')
    commands = COMMANDS[COMMANDS.index(OWN_DATABASE) :]

    said = run(site, "-c", MANAGE, "manage.py migrate -v0", commands[0], "manage.py otel_audit doctor", *commands[1:])

    assert "✓ Record read back: Process, step and registration are in 'audit'" in said
    assert f"spool dir           {site / 'spool'}" in said
    assert len(commands) >= 5


def test_the_python_of_the_readme_runs_on_that_site(site: Path) -> None:
    body = [block for block in CODE if "RequestAuditEvent.objects.first()" not in block]
    functions = [block for block in body if "def test_" not in block]
    tests = [block for block in body if "def test_" in block]
    (site / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (site / "test_blocks.py").write_text("\n".join([*functions, CALLS, *tests]), encoding="utf-8")
    (site / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = site_settings\n", encoding="utf-8")
    probe = [sys.executable, "-c", "import importlib.metadata as m; m.distribution('otel-audit')"]
    installed = subprocess.run(probe, capture_output=True, check=False, cwd=site).returncode == 0

    said = run(site, "-m", "pytest", "-q", *([] if installed else ["-p", "otel_audit.pytest_plugin"]), "test_blocks.py")

    assert "3 passed" in said


def test_the_first_row_of_the_readme_is_there_after_a_request(site: Path) -> None:
    block = next(block for block in CODE if "RequestAuditEvent.objects.first()" in block)
    script = f"""
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0); call_command("migrate", database="audit", verbosity=0)
from django.core.handlers.wsgi import WSGIHandler
from django.test import RequestFactory
environ = RequestFactory().get("/api/products/", headers={{"host": "localhost"}}).environ
from django.conf import settings; settings.ALLOWED_HOSTS = ["localhost"]
WSGIHandler()(environ, lambda *a: None).close()
import otel_audit
assert otel_audit.flush(10) == 0
{block}
"""

    said = run(site, "-c", script)

    assert said.startswith("anonymous GET /api/products/ 201 ")


def test_the_table_of_settings_names_every_key() -> None:
    table = README.split("<!-- settings: begin -->")[1].split("<!-- settings: end -->")[0]

    assert re.findall(r"^\| `([A-Z_]+)` ", table, re.MULTILINE) == list(DEFAULTS)
