"""Real servers under load whose processes are killed at random moments: what was answered is there, once.

``OTEL_AUDIT_KILLS``, which ``make faults`` sets to 1,000, is shared among all cases. Without it the few cases run
that have a number of kills beside them.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.e2e.shop import Server, until
from tests.e2e.visitors import Visitors
from tests.faults.mortal import SERVERS, Mortal, assert_the_equation_holds

pytestmark = pytest.mark.e2e

SEED = 20261124
KILLS = int(os.environ.get("OTEL_AUDIT_KILLS", "0"))
WORKER, GROUP = "a worker", "all at once"
#: Server, whom it hits, ``INTENTS`` → kills where ``OTEL_AUDIT_KILLS`` is not set.
CASES = {
    ("gunicorn sync", WORKER, "off"): 0,
    ("gunicorn sync", WORKER, "record"): 0,
    ("gunicorn sync", GROUP, "off"): 0,
    ("gunicorn sync", GROUP, "record"): 3,
    ("gunicorn gthread", WORKER, "off"): 0,
    ("gunicorn gthread", WORKER, "record"): 13,
    ("gunicorn gthread", GROUP, "off"): 0,
    ("gunicorn gthread", GROUP, "record"): 0,
    ("gunicorn --preload", WORKER, "off"): 25,
    ("gunicorn --preload", WORKER, "record"): 0,
    ("gunicorn --preload", GROUP, "off"): 0,
    ("gunicorn --preload", GROUP, "record"): 0,
    ("uvicorn", GROUP, "off"): 3,
    ("uvicorn", GROUP, "record"): 0,
    ("uvicorn, two workers", WORKER, "off"): 0,
    ("uvicorn, two workers", WORKER, "record"): 6,
    ("uvicorn, two workers", GROUP, "off"): 0,
    ("uvicorn, two workers", GROUP, "record"): 0,
}
#: Seconds that one kill may take with everything that follows from it, on a slow machine.
SECONDS_PER_KILL = 30


def cases() -> Iterator[object]:
    """Yield the cases to run, with their kills."""
    for case, few in CASES.items():
        kills = -(-KILLS // len(CASES)) or few
        if kills:
            patience = pytest.mark.timeout(120 + SECONDS_PER_KILL * kills)
            yield pytest.param(*case, kills, id=", ".join(case), marks=patience)


@pytest.mark.parametrize(("name", "victim", "intents", "kills"), list(cases()))
def test_what_was_answered_is_recorded_once_whenever_processes_are_killed(
    site: Mortal, name: str, victim: str, intents: str, kills: int
) -> None:
    site.audit["INTENTS"] = intents
    chance = random.Random(f"{SEED} {name} {victim} {intents}")
    with Visitors("", pages=["/order/"]) as visitors, ExitStack() as running:
        server = running.enter_context(site.serve(SERVERS[name]))
        visitors.base_url = server.base_url
        visitors.visit(limit=1_000_000_000)
        for _ in range(kills):
            visitors.wait_for(answers=len(visitors.answered) + chance.randint(1, 40))
            time.sleep(chance.uniform(0, 0.03))
            if victim == WORKER:
                kill_a_worker(server, chance)
            else:
                server.kill_group()
                server = running.enter_context(site.serve(SERVERS[name]))
                visitors.base_url = server.base_url
        server.kill_group()
        visitors.leave()

    recover(site, name, visitors, by_restart=intents == "off")

    recorded, effects = site.recorded(), site.effects()
    print(
        f"{name}, {victim}, INTENTS={intents!r}: {kills} kills, {len(visitors.sent)} sent, "
        f"{len(visitors.answered)} answered, {len(effects)} effects, {recorded.total()} rows, "
        f"{len(visitors.answered - recorded.keys())} missing, {recorded.total() - len(recorded)} doubled"
    )
    visitors.assert_recorded_once(site)
    if intents == "record":
        assert sorted(set(effects) - recorded.keys()) == []  # also of requests that were never answered
    assert_the_equation_holds(site)


def kill_a_worker(server: Server, chance: random.Random) -> None:
    """Kill a worker that is there."""
    while True:
        worker = chance.choice(until(server.workers, timeout=20))
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
            return


def recover(site: Mortal, name: str, visitors: Visitors, *, by_restart: bool) -> None:
    """Bring in what the dead have left: by the next start of the server and nothing else, or by the command."""
    if not by_restart:
        site.drain()
        return
    with site.serve(SERVERS[name]) as server:
        until(lambda: site.status()["pending"] == 0, timeout=60, pause=0.2)
        server.terminate()
