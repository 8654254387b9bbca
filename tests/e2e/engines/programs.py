"""What an engine is started from: a program of this machine, or a service that somebody else runs.

Services are given by variables, as `make e2e-docker` sets them: ``OTEL_AUDIT_E2E_<SERVICE>`` is the URL at which one
of docker-compose.yml answers, and ``OTEL_AUDIT_E2E_COMPOSE`` the command, ``docker compose`` with its files, that
starts and kills them. Without that command those services are taken that run as they stand in docker-compose.yml
(``COLLECTOR`` and ``JAEGER``), and a test that has to kill one is skipped.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

__all__ = ["THIS_MACHINE", "Program", "Service", "given"]

_PREFIX: Final = "OTEL_AUDIT_E2E_"
_COMPOSE: Final = shlex.split(os.environ.get(f"{_PREFIX}COMPOSE", ""))
#: By which name services reach this machine; None where they are programs of it.
THIS_MACHINE: Final = os.environ.get(f"{_PREFIX}HOST")
#: A service that has to be pulled or restarted takes longer than a program.
_COMPOSE_S: Final = 180


class Program:
    """A program of this machine, as a process of ours."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self._command = list(map(str, command))
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent), **environment}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def is_running(self) -> bool:
        """Say whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def end(self, how: signal.Signals) -> None:
        """End it by a signal, and wait until it has ended."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise
            self._process = None

    def release(self) -> None:
        """Kill it, as its test is over."""
        self.end(signal.SIGKILL)


class Service:
    """A service of docker-compose.yml; ``environment`` is what the test tells it, by variables that the file names."""

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        if environment and not _COMPOSE:
            pytest.skip(f"NOT TESTED: {name} needs to be told more than its address: make e2e-docker")
        self._name = name
        self._environment = dict(environment)
        self._is_running = False
        self._is_new = bool(environment)

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._compose("logs", "--no-log-prefix", self._name) if _COMPOSE else ""

    def is_running(self) -> bool:
        """Say whether it was started last, or ended."""
        return self._is_running

    def start(self) -> None:
        """Start it: anew what the test tells something, at first, else as it was left."""
        if _COMPOSE:
            how = ["--force-recreate"] if self._is_new else []
            self._compose("up", "--detach", "--wait", "--no-deps", *how, self._name)
        self._is_running, self._is_new = True, False

    def end(self, how: signal.Signals) -> None:
        """End it by a signal."""
        if not _COMPOSE:
            pytest.skip(f"NOT TESTED: nobody said how {self._name} is killed: make e2e-docker")
        self._compose("kill" if how is signal.SIGKILL else "stop", self._name)
        self._is_running = False

    def release(self) -> None:
        """Kill it, as its test is over, if that can be done."""
        if _COMPOSE and self._is_running:
            self.end(signal.SIGKILL)

    def _compose(self, *arguments: str) -> str:
        done = subprocess.run(
            [*_COMPOSE, *arguments],
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMPOSE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def given(service: str) -> str | None:
    """Return the URL at which a service answers; None where the tests start a program of their own."""
    return os.environ.get(_PREFIX + service.upper().replace("-", "_"))
