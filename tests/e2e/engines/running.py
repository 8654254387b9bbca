"""The Collector and Jaeger as processes on ports of their own, which a test can kill and start again."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.engines.build import MissingProgram, program
from tests.e2e.shop import until

__all__ = ["CONFIGS", "Engine", "JaegerQuery", "collector", "free_port", "jaeger", "validate", "wanted"]

CONFIGS = Path(__file__).parents[3] / "collector-config"
START_S = 60.0


class Engine:
    """A program that runs: started and killed as often as a test likes, always with the same ports."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], health: str, log: Path) -> None:
        self._command = list(map(str, command))
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent), **environment}
        self._health = health
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start it, and wait until it is healthy; one that ends, as its port is taken for a moment, is started anew."""
        assert until(self._is_healthy, timeout=START_S, pause=0.05), self.log[-4000:]

    def kill(self) -> None:
        """Kill it, as a machine that fails would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        self._end(signal.SIGTERM)

    def _is_healthy(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
        # Another program could answer at this port.
        return self._is_answering() and self._process.poll() is None

    def _is_answering(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(self._health, timeout=5, trust_env=False).status_code == 200
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise
            self._process = None


class Collector(Engine):
    """A Collector; ``endpoint`` and ``grpc_endpoint`` are where it takes spans."""

    endpoint = ""
    grpc_endpoint = ""


class JaegerQuery(Engine):
    """A Jaeger; ``otlp`` is where it takes spans over gRPC, ``url`` where it shows them."""

    otlp = ""
    url = ""

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the spans of a trace as they are stored, each as often as it is; none of an unknown trace."""
        found = self._get(f"/api/traces/{trace_id}?raw=true")
        return [span for trace in found for span in trace["spans"]]

    def text(self, trace_id: str) -> str:
        """Return everything that is stored of a trace, to search it."""
        return json.dumps(self._get(f"/api/traces/{trace_id}?raw=true"))

    def ids(self, service: str) -> Counter[tuple[str, str]]:
        """Count trace id and span id of every span of a service, each as often as it is stored."""
        traces = self._get(f"/api/traces?service={service}&limit=100000&lookback=2d")
        return Counter((trace["traceID"], span["spanID"]) for trace in traces for span in self.trace(trace["traceID"]))

    def _get(self, path: str) -> Any:
        answer = httpx.get(self.url + path, timeout=30, trust_env=False)
        return [] if answer.status_code == 404 else answer.raise_for_status().json()["data"]


@contextmanager
def collector(
    config: str, folder: Path, environment: Mapping[str, str] | None = None, override: str = "{}"
) -> Iterator[Collector]:
    """Run a Collector with a file of the repository until the end of the block, where it is killed.

    ``override`` is YAML that is laid over the file. Only its ports are other ones, as tests run side by side.
    """
    grpc, http, health = free_port(), free_port(), free_port()
    ports = (
        f"receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}, "
        f"http: {{endpoint: '127.0.0.1:{http}'}}}}}}}}",
        f"extensions: {{health_check: {{endpoint: '127.0.0.1:{health}'}}}}",
        override,
    )
    command: list[str | Path] = [wanted("collector"), "--config", CONFIGS / config]
    command += [word for text in ports for word in ("--config", f"yaml:{text}")]
    given = {"QUEUE_DIR": str(folder / "queue"), **(environment or {})}
    engine = Collector(command, given, f"http://127.0.0.1:{health}/", folder / "collector.log")
    engine.endpoint = f"http://127.0.0.1:{http}/v1/traces"
    engine.grpc_endpoint = f"http://127.0.0.1:{grpc}"
    with _running(engine):
        yield engine


@contextmanager
def jaeger(folder: Path) -> Iterator[JaegerQuery]:
    """Run a Jaeger that keeps its traces in memory until the end of the block."""
    ports = {flag: free_port() for flag in _JAEGER_PORTS}
    command: list[str | Path] = [wanted("jaeger"), "--memory.max-traces=1000000", "--collector.otlp.enabled=true"]
    command += [f"--{flag}={f'127.0.0.1:{port}' if 'host-port' in flag else port}" for flag, port in ports.items()]
    health = f"http://127.0.0.1:{ports['admin.http.host-port']}/"
    # With its own tracing it waits ten seconds for itself when it stops.
    engine = JaegerQuery(command, {"OTEL_TRACES_SAMPLER": "always_off"}, health, folder / "jaeger.log")
    engine.otlp = f"127.0.0.1:{ports['collector.otlp.grpc.host-port']}"
    engine.url = f"http://127.0.0.1:{ports['query.http-server.host-port']}"
    with _running(engine):
        yield engine


_JAEGER_PORTS = (
    "admin.http.host-port",
    "collector.grpc-server.host-port",
    "collector.http-server.host-port",
    "collector.otlp.grpc.host-port",
    "collector.otlp.http.host-port",
    "processor.jaeger-binary.server-host-port",
    "processor.jaeger-compact.server-host-port",
    "processor.zipkin-compact.server-host-port",
    "http-server.host-port",
    "query.grpc-server.host-port",
    "query.http-server.host-port",
)


def validate(config: Path) -> subprocess.CompletedProcess[str]:
    """Let the Collector itself check a file."""
    return subprocess.run(
        [wanted("collector"), "validate", "--config", config],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def wanted(name: str) -> Path:
    """Return the program; without it the test is skipped."""
    try:
        return program(name)
    except MissingProgram as missing:
        pytest.skip(f"NOT TESTED: {missing}")


def free_port() -> int:
    """Return a port that nobody listens at, below those that outgoing connections take by themselves."""
    while True:
        port = random.randint(12_000, 32_000)
        with suppress(OSError), closing(socket.create_server(("127.0.0.1", port))):
            return port


@contextmanager
def _running(engine: Engine) -> Iterator[None]:
    try:
        engine.start()
        yield
    finally:
        engine.kill()
