"""gunicorn's gevent workers leave the drain to a process beside them."""

from __future__ import annotations

import importlib.util
import random

import pytest

from tests.e2e.shop import until
from tests.e2e.visitors import Visitors
from tests.faults.mortal import SERVERS, Mortal, assert_the_equation_holds
from tests.faults.test_server_kills import kill_a_worker

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        importlib.util.find_spec("gevent") is None, reason="NOT TESTED: gevent is not here; pip install gevent."
    ),
]

KILLS = 2


def test_a_drain_beside_gevent_workers_stores_each_record_once(site: Mortal) -> None:
    site.audit |= {"DRAIN": "external", "INTENTS": "record", "FSYNC": "always"}  # the most that one can wait for
    chance = random.Random(20261124)
    with site.watching_drain() as drain, site.serve(SERVERS["gunicorn gevent"]) as server:
        with Visitors(server.base_url, threads=8, pages=["/order/"]) as visitors:
            visitors.visit(limit=1_000_000)
            for _ in range(KILLS):
                visitors.wait_for(answers=len(visitors.answered) + 30)
                kill_a_worker(server, chance)
            visitors.wait_for(answers=len(visitors.answered) + 30)
            server.terminate()

        stored = until(lambda: site.recorded().keys() >= visitors.answered, timeout=30)

        assert drain.poll() is None

    assert stored
    assert drain.returncode == 0
    visitors.assert_recorded_once(site)
    assert sorted(set(site.effects()) - site.recorded().keys()) == []
    assert_the_equation_holds(site)
