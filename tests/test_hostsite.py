"""An ordinary site's own tests run unchanged with an audit trail installed, and leave nothing anywhere."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_django

import otel_audit
import otel_audit_exporters
from tests.fresh_databases import Databases, fresh_databases

HOSTSITE = Path(__file__).parent / "hostsite"
PLAIN, AUDITED, APART = "library.settings", "library.settings_audited", "library.settings_audited_apart"

DJANGO = ["-W", "error", "manage.py", "test", "-v", "2"]
PYTEST = ["-W", "error", "-m", "pytest", "-p", "no:cacheprovider"]
OWN_SUITES = {
    "manage.py test": [*DJANGO, "library"],
    "manage.py test --parallel 2": [*DJANGO, "--parallel", "2", "library"],
    "pytest": [*PYTEST, "library", "pytest_style"],
    "pytest -n 2": [*PYTEST, "-n", "2", "library", "pytest_style"],
}
TRAIL_SUITES = {
    "manage.py test audited": [*DJANGO, "audited"],
    "pytest audited": [*PYTEST, "audited"],
}
SUITES = OWN_SUITES | TRAIL_SUITES
#: Python imports this at its start: it notes every thread that begins, in forked and spawned processes too.
WATCH_THREADS = """
import os, threading

def start(self, *, _start=threading.Thread.start):
    with open(os.environ["LIBRARY_THREADS"], "a") as threads:
        threads.write(self.name + "\\n")
    _start(self)

threading.Thread.start = start
"""


@dataclass
class Run:
    """One run of the library's tests, and what it left behind."""

    status: int
    output: str
    outcomes: dict[str, str]
    databases: Databases
    changed_files: list[str]
    home: Path
    threads: list[str]


class Library:
    """The site in a directory of its own, with the databases that it works with every day."""

    def __init__(self, settings: str, directory: Path, databases: Databases) -> None:
        self.site = directory / "site"
        self.databases = databases
        self._settings = settings
        self._home = directory / "home"
        self._threads = directory / "threads"
        self._watch = directory / "watch"
        shutil.copytree(HOSTSITE, self.site, ignore=shutil.ignore_patterns("__pycache__", "conftest.py"))
        self._home.mkdir()
        self._watch.mkdir()
        (self._watch / "sitecustomize.py").write_text(WATCH_THREADS, encoding="utf-8")
        self._threads.touch()
        for alias in databases.settings:
            self.python(["manage.py", "migrate", "--database", alias, "-v", "0"]).check_returncode()

    def run(self, arguments: list[str]) -> Run:
        """Run Python with ``arguments`` in the site's directory."""
        results = self.site.parent / "results.xml"
        results.unlink(missing_ok=True)
        self._threads.write_text("")
        before = self._files()

        if "pytest" in arguments:
            arguments = [*arguments, "--junitxml", str(results), *_plugin()]
        done = self.python(arguments)

        return Run(
            status=done.returncode,
            output=done.stdout,
            outcomes=_of_pytest(results) if results.exists() else _of_django(done.stdout),
            databases=self.databases,
            changed_files=sorted(before.items() ^ self._files().items()),
            home=self._home,
            threads=self._threads.read_text().splitlines(),
        )

    def python(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        """Run Python with ``arguments`` to its end."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.site,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        foreign = ("OTEL_", "DJANGO_", "PYTEST_", "STATE_DIRECTORY")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        packages = [str(Path(package.__file__ or "").parents[1]) for package in (otel_audit, otel_audit_exporters)]
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(self._watch), *packages]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": self._settings,
            "HOME": str(self._home),
            "XDG_STATE_HOME": str(self._home / "state"),
            "LIBRARY_DATABASES": json.dumps(self.databases.settings),
            "LIBRARY_THREADS": str(self._threads),
        }

    def _files(self) -> dict[str, str]:
        """Return a hash of every file of the site, its databases among them."""
        return {
            str(path.relative_to(self.site.parent)): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in (self.site, self.site.parent / "databases")
            for path in folder.rglob("*")
            if path.is_file()
        }


Runs = Callable[[str, str], Run]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Runs]:
    """Runs one of `SUITES` in the library under given settings, once in this module."""
    libraries: dict[str, Library] = {}
    done: dict[tuple[str, str], Run] = {}
    with ExitStack() as stack:

        def run(settings: str, suite: str) -> Run:
            if settings not in libraries:
                directory = tmp_path_factory.mktemp("library")
                aliases = ["default", "audit"] if settings == APART else ["default"]
                databases = stack.enter_context(fresh_databases(aliases, directory / "databases", django_db_blocker))
                libraries[settings] = Library(settings, directory, databases)
            if (settings, suite) not in done:
                done[settings, suite] = libraries[settings].run(SUITES[suite])
            return done[settings, suite]

        yield run


@pytest.fixture(scope="module", params=OWN_SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Each way of running the library's tests."""
    return str(request.param)


@pytest.fixture(scope="module", params=[AUDITED, APART], ids=["default database", "database of its own"])
def audited(request: pytest.FixtureRequest, suite: str, runs: Runs) -> Run:
    """A run of the library's tests with the audit trail installed."""
    return runs(str(request.param), suite)


def test_a_sites_tests_give_the_same_results_with_an_audit_trail(audited: Run, suite: str, runs: Runs) -> None:
    plain = runs(PLAIN, suite)

    assert plain.status == 0, plain.output
    assert audited.status == 0, audited.output
    assert set(plain.outcomes.values()) == {"ok"}
    assert audited.outcomes == plain.outcomes


def test_a_sites_tests_put_no_row_into_its_real_databases(audited: Run) -> None:
    rows = {
        (alias, table): audited.databases.query(alias, f"SELECT COUNT(*) FROM {table}")[0][0]
        for alias in audited.databases.settings
        for table in audited.databases.tables(alias, "otel_audit_")
    }

    assert len(rows) == 5
    assert set(rows.values()) == {0}


def test_a_sites_tests_change_no_file_of_it(audited: Run) -> None:
    assert audited.changed_files == []


def test_a_sites_tests_make_no_spool(audited: Run) -> None:
    assert list(audited.home.rglob("*")) == []


def test_a_sites_tests_start_no_thread_of_ours(audited: Run) -> None:
    assert [name for name in audited.threads if name.startswith("otel-audit")] == []


def test_test_databases_are_dropped(audited: Run) -> None:
    names = sorted(database["NAME"] for database in audited.databases.settings.values())

    assert audited.databases.names() == names


@pytest.mark.parametrize("settings", [AUDITED, APART], ids=["default database", "database of its own"])
@pytest.mark.parametrize("suite", TRAIL_SUITES)
def test_a_site_asserts_on_its_own_audit_trail(settings: str, suite: str, runs: Runs) -> None:
    run = runs(settings, suite)

    assert run.status == 0, run.output
    assert len(run.outcomes) >= 8
    assert run.changed_files == []
    assert list(run.home.rglob("*")) == []


def _plugin() -> list[str]:
    """Return what loads our pytest plugin where no installed distribution's entry point does."""
    installed = any(found.name == "otel_audit" for found in importlib.metadata.entry_points(group="pytest11"))
    return [] if installed else ["-p", "otel_audit.pytest_plugin"]


def _of_pytest(results: Path) -> dict[str, str]:
    return {
        f"{case.get('classname')}.{case.get('name')}": "ok" if len(case) == 0 else case[0].tag
        for case in ElementTree.parse(results).iter("testcase")
    }


def _of_django(output: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+ \([\w.]+\))[^\n]*\.\.\. (\w+)$", output, re.MULTILINE))
