"""The Collector and Jaeger, as programs on ports of their own or as services that are given; a test can kill them."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.engines.build import MissingProgram, program
from tests.e2e.engines.programs import THIS_MACHINE, Program, Service, given
from tests.e2e.shop import until

__all__ = [
    "CONFIGS",
    "Engine",
    "JaegerQuery",
    "collector",
    "free_port",
    "jaeger",
    "listening",
    "reachable",
    "validate",
    "wanted",
]

CONFIGS = Path(__file__).parents[3] / "collector-config"
START_S = 60.0
#: Where services find one another stands in docker-compose.yml.
_BETWEEN_SERVICES = {"JAEGER_OTLP_ENDPOINT", "KAFKA_BROKERS"}


class Engine:
    """One of them, running: started and killed as often as a test likes, always at the same address.

    ``health`` is a URL that it answers once it is there; None where it is there when its program runs.
    """

    def __init__(self, program: Program | Service, health: str | None) -> None:
        self._program = program
        self._health = health

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._program.log

    def start(self) -> None:
        """Start it, and wait until it is healthy; one that ends, as its port is taken for a moment, is started anew."""
        assert until(self._is_healthy, timeout=START_S, pause=0.05), self.log[-4000:]

    def kill(self) -> None:
        """Kill it, as a machine that fails would."""
        self._program.end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        self._program.end(signal.SIGTERM)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it until the end of the block, where it is killed."""
        try:
            self.start()
            yield
        finally:
            self._program.release()

    def _is_healthy(self) -> bool:
        if not self._program.is_running():
            self._program.start()
        # Another program could answer at this port.
        return self._is_answering() and self._program.is_running()

    def _is_answering(self) -> bool:
        if self._health is None:
            return True
        with suppress(httpx.TransportError):
            return httpx.get(self._health, timeout=5, trust_env=False).status_code < 500
        return False


class Collector(Engine):
    """A Collector; ``endpoint`` is where it takes spans over HTTP."""

    endpoint = ""


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
    service = "collector" if config == "agent.yaml" else config.removesuffix(".yaml")
    make = _program if (url := given(service)) is None else functools.partial(_service, service, url)
    engine = make(config, folder, environment or {}, override)
    with engine.running():
        yield engine


def _service(
    service: str, url: str, config: str, folder: Path, environment: Mapping[str, str], override: str
) -> Collector:
    told = {name: value for name, value in environment.items() if name not in _BETWEEN_SERVICES}
    if told:
        told |= {"QUEUE_DIR": str(folder / "queue"), "E2E_OVERRIDE": override}
    engine = Collector(Service(service, told), url)
    engine.endpoint = f"{url}/v1/traces"
    return engine


def _program(config: str, folder: Path, environment: Mapping[str, str], override: str) -> Collector:
    grpc, http, health = free_port(), free_port(), free_port()
    ports = (
        f"receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}, "
        f"http: {{endpoint: '127.0.0.1:{http}'}}}}}}}}",
        f"extensions: {{health_check: {{endpoint: '127.0.0.1:{health}'}}}}",
        override,
    )
    command: list[str | Path] = [wanted("collector"), "--config", CONFIGS / config]
    command += [word for text in ports for word in ("--config", f"yaml:{text}")]
    told = {"QUEUE_DIR": str(folder / "queue"), **environment}
    engine = Collector(Program(command, told, folder / "collector.log"), f"http://127.0.0.1:{health}/")
    engine.endpoint = f"http://127.0.0.1:{http}/v1/traces"
    return engine


@contextmanager
def jaeger(folder: Path) -> Iterator[JaegerQuery]:
    """Run a Jaeger that keeps its traces in memory until the end of the block."""
    engine = _jaeger_program(folder) if (url := given("jaeger")) is None else JaegerQuery(Service("jaeger", {}), url)
    engine.url = engine.url or str(url)
    with engine.running():
        yield engine


def _jaeger_program(folder: Path) -> JaegerQuery:
    ports = {flag: free_port() for flag in _JAEGER_PORTS}
    command: list[str | Path] = [wanted("jaeger"), "--memory.max-traces=1000000", "--collector.otlp.enabled=true"]
    command += [f"--{flag}={f'127.0.0.1:{port}' if 'host-port' in flag else port}" for flag, port in ports.items()]
    health = f"http://127.0.0.1:{ports['admin.http.host-port']}/"
    # With its own tracing it waits ten seconds for itself when it stops.
    engine = JaegerQuery(Program(command, {"OTEL_TRACES_SAMPLER": "always_off"}, folder / "jaeger.log"), health)
    engine.otlp = f"127.0.0.1:{ports['collector.otlp.grpc.host-port']}"
    engine.url = f"http://127.0.0.1:{ports['query.http-server.host-port']}"
    return engine


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


def listening() -> socket.socket:
    """Return a socket that listens where the engines reach it."""
    return socket.create_server(("127.0.0.1" if THIS_MACHINE is None else "0.0.0.0", 0))


def reachable(listener: socket.socket) -> str:
    """Return where a Collector finds the receiver behind a socket."""
    return f"http://{THIS_MACHINE or '127.0.0.1'}:{listener.getsockname()[1]}/v1/traces"
