"""A Kafka broker as a process, which a test can kill and start again on the data that it left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from tests.e2e.engines.build import KAFKA
from tests.e2e.engines.programs import Program, Service, given
from tests.e2e.engines.running import Engine, free_port, wanted

__all__ = ["Broker", "broker"]

_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"
_LOG = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
_JAVA = ["java", _LOG, "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


class Broker(Engine):
    """A broker; ``port`` is where it takes clients of this machine, None where it is a service that is given."""

    def __init__(self, program: Program | Service, port: int | None) -> None:
        super().__init__(program, None)
        self._port = port
        self._topic = f"spans-{uuid4()}"

    @property
    def environment(self) -> dict[str, str]:
        """What a Collector needs to find it, and a topic of its own in it."""
        brokers = {} if self._port is None else {"KAFKA_BROKERS": json.dumps([f"127.0.0.1:{self._port}"])}
        return {**brokers, "KAFKA_TOPIC": self._topic}

    def _is_answering(self) -> bool:
        if self._port is None:
            return True
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=5):
            return True
        return False


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """Run a broker, with its data in ``folder``, until the end of the block, where it is killed."""
    engine = _program(folder) if given("kafka-in") is None else Broker(Service("kafka", {}), None)
    with engine.running():
        yield engine


def _program(folder: Path) -> Broker:
    folder.mkdir(parents=True, exist_ok=True)
    port, jars = free_port(), f"{wanted('kafka')}/*"
    filled = (KAFKA / "server.properties").read_text()
    values = {"PORT": port, "CONTROLLER_PORT": free_port(), "DATA": folder / "data"}
    for name, value in values.items():
        filled = filled.replace(f"@{name}@", str(value))
    properties = folder / "server.properties"
    properties.write_text(filled)
    _format(jars, properties)
    return Broker(Program([*_JAVA, "-cp", jars, "kafka.Kafka", properties], {}, folder / "kafka.log"), port)


def _format(jars: str, properties: Path) -> None:
    tool = ["kafka.tools.StorageTool", "format", "--cluster-id", _CLUSTER, "--config", str(properties)]
    environment = {"PATH": os.environ["PATH"]}
    subprocess.run(
        ["java", _LOG, "-cp", jars, *tool], env=environment, check=True, capture_output=True, text=True, timeout=120
    )
