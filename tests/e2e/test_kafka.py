"""Over Kafka into the audit trail: whoever is killed on the way, what a sender was told to be safe is there, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import pytest_django

from tests.e2e.engines.broker import Broker, broker
from tests.e2e.engines.running import Collector, collector, listening, reachable
from tests.fresh_databases import fresh_databases
from tests.receiver.sending import PROTOBUF, Service
from tests.receiver.serving import PROCESS, RECEIVE, REGISTRATION, START_S, STEP, Site, until

#: How often each of the four is killed.
ROUNDS = int(os.environ.get("OTEL_AUDIT_KAFKA_ROUNDS", "1"))
#: The sender has done with them some seconds after the last kill.
PROCESSES = 1_200 * ROUNDS
#: A collector that is killed keeps its partitions until Kafka misses it; in production for longer.
MISSED = "receivers: {kafka: {session_timeout: 3s, heartbeat_interval: 500ms}}"
#: All that is waited for at most: for each kill a start, the rest for what was held up.
ARRIVES_S = 60.0

pytestmark = [pytest.mark.e2e, pytest.mark.engines, pytest.mark.timeout(180 + 120 * ROUNDS)]


class Route:
    """Collector, Kafka, Collector, receiver; each can be killed, and is there again at once."""

    out: Collector | None = None

    def __init__(self, site: Site, directory: Path) -> None:
        self.site = site
        self._directory = directory

    @contextmanager
    def running(self) -> Iterator[Route]:
        """Run all but what reads from Kafka."""
        with ExitStack() as stack:
            self._listener = stack.enter_context(listening())
            self.broker: Broker = stack.enter_context(broker(self._directory / "kafka"))
            self.into = self._collector(stack, "kafka-in.yaml")
            self._start_receiver()
            stack.callback(self._kill_receiver)
            yield self

    @contextmanager
    def reading(self, token: str) -> Iterator[None]:
        """Run what reads from Kafka, until the end of the block; it shows ``token`` to the receiver."""
        audit = {"AUDIT_ENDPOINT": reachable(self._listener), "AUDIT_TOKEN": token}
        with ExitStack() as stack:
            self.out = self._collector(stack, "kafka-out.yaml", audit, MISSED)
            yield

    def kills(self) -> dict[str, Callable[[], None]]:
        """Return what kills each of the four and starts it again."""
        return {
            "broker": lambda: _again(self.broker),
            "collector before Kafka": lambda: _again(self.into),
            "collector behind Kafka": lambda: _again(self.out),
            "receiver": self._receiver_again,
        }

    def stop_receiver(self) -> None:
        """Ask the receiver to stop, and wait until it has."""
        self._receiver.send_signal(signal.SIGTERM)
        assert self._receiver.wait(START_S) == 0, self.site.log()

    def logs(self) -> str:
        """Return what everybody wrote last."""
        engines = [engine for engine in (self.broker, self.into, self.out) if engine is not None]
        return "\n".join(text[-3000:] for text in (*(engine.log for engine in engines), self.site.log()))

    def _collector(
        self, stack: ExitStack, config: str, environment: dict[str, str] | None = None, override: str = "{}"
    ) -> Collector:
        folder = self._directory / config.removesuffix(".yaml")
        folder.mkdir(exist_ok=True)
        given = {**self.broker.environment, **(environment or {})}
        return stack.enter_context(collector(config, folder, given, override))

    def _receiver_again(self) -> None:
        self._kill_receiver()
        self._start_receiver()

    def _start_receiver(self) -> None:
        self._running = ExitStack()
        self._receiver: subprocess.Popen[bytes] = self._running.enter_context(
            self.site.running(self._listener, RECEIVE)
        )

    def _kill_receiver(self) -> None:
        self._running.close()  # which kills it


def _again(engine: Broker | Collector | None) -> None:
    assert engine is not None
    engine.kill()
    engine.start()


@pytest.fixture
def route(tmp_path: Path, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Route]:
    """The whole way, with a database of its own at its end."""
    (tmp_path / "site").mkdir()
    with (
        fresh_databases(["default", "audit"], tmp_path / "site", django_db_blocker) as databases,
        Route(Site(tmp_path / "site", databases), tmp_path).running() as running,
    ):
        yield running


def test_broker_collectors_and_receiver_are_killed_in_turn_and_every_row_is_there_once(route: Route) -> None:
    site, chance = route.site, random.Random(5)
    with route.reading(site.token), site.sending(route.into.endpoint, PROCESSES) as sender:
        for _ in range(ROUNDS):
            for who, kill in chance.sample(sorted(route.kills().items()), 4):
                enough = min(PROCESSES, len(site.acknowledged()) + chance.randint(5, 100))
                assert until(lambda enough=enough: len(site.acknowledged()) >= enough), f"{who}\n{route.logs()}"
                kill()
        assert sender.wait(START_S + PROCESSES / 20) == 0, route.logs()
        _assert_arrived(route, PROCESSES)
    route.stop_receiver()
    counts = site.drained()

    print(f"{4 * ROUNDS} kills, {3 * PROCESSES} records acknowledged, {counts['stored']} received")
    acknowledged = sorted(site.acknowledged())
    assert acknowledged == sorted(f"sale {number}" for number in range(PROCESSES))
    assert sorted(name for (name,) in site.query(f"SELECT name FROM {PROCESS}")) == acknowledged
    for table in (STEP, REGISTRATION):
        assert site.query(f"SELECT count(*), count(DISTINCT span_id) FROM {table}") == [(PROCESSES, PROCESSES)]
    linked = f"SELECT count(*) FROM {REGISTRATION} r JOIN {STEP} s ON r.step_id = s.id JOIN {PROCESS} p"
    assert site.query(f"{linked} ON s.process_id = p.id") == [(PROCESSES,)]
    assert (counts["lost"], counts["quarantined"], counts["pending"]) == (0, 0, 0)


def test_what_the_receiver_refuses_waits_in_kafka_until_the_cause_is_put_right(route: Route) -> None:
    site = route.site
    with site.sending(route.into.endpoint, 20) as sender:
        assert sender.wait(START_S) == 0, route.logs()
    with route.reading("otel_audit_of-another-time"):
        assert until(lambda: "pausing partition" in route.logs()), route.logs()
    assert _count(site, PROCESS) == 0

    with route.reading(site.token):
        _assert_arrived(route, 20)

    assert site.query(f"SELECT count(*), count(DISTINCT name) FROM {PROCESS}") == [(20, 20)]


def test_what_is_larger_than_a_kafka_record_goes_there_in_parts_but_for_a_span_that_is(route: Route) -> None:
    answers = [_send(route.into.endpoint, *sizes) for sizes in [(400_000, 400_000, 400_000), (1_100_000,)]]

    with route.reading(route.site.token):
        _assert_arrived(route, 3, registrations=0)

    assert answers == [200, 503]


def _send(url: str, *sizes: int) -> int:
    """Send processes with so much text each in one request; return the status of the answer."""
    service = Service("till")
    for size in sizes:
        with service.process(note="x" * size):
            pass
    body = service.request().SerializeToString()
    return httpx.post(url, content=body, headers={"Content-Type": PROTOBUF}, trust_env=False, timeout=60).status_code


def _assert_arrived(route: Route, processes: int, registrations: int | None = None) -> None:
    wanted = (processes, processes if registrations is None else registrations)
    tables = (PROCESS, REGISTRATION)
    arrived = until(lambda: tuple(_count(route.site, table) for table in tables) == wanted, ARRIVES_S)
    assert arrived, f"{[_count(route.site, table) for table in tables]} of {wanted}\n{route.logs()}"


def _count(site: Site, table: str) -> int:
    return int(site.query(f"SELECT count(*) FROM {table}")[0][0])
