"""A new version is rolled out under load: the old server is told to stop, and the next one starts."""

from __future__ import annotations

import pytest

from tests.e2e.shop import until
from tests.e2e.visitors import Visitors
from tests.faults.mortal import SERVERS, Mortal, assert_the_equation_holds

pytestmark = pytest.mark.e2e

COMMAND, RESTART = "by the command alone", "by the next start alone"
CASES = [
    ("gunicorn sync", RESTART),
    ("gunicorn gthread", COMMAND),
    ("uvicorn", RESTART),
    ("uvicorn, two workers", RESTART),
    ("uvicorn, two workers", COMMAND),
]


@pytest.mark.parametrize(("name", "recovered"), CASES)
def test_a_deploy_under_load_loses_nothing(site: Mortal, name: str, recovered: str) -> None:
    site.audit["DRAIN"] = "external"  # the old server leaves everything behind
    with Visitors("", pages=["/order/"]) as visitors:
        with site.serve(SERVERS[name]) as old:
            visitors.base_url = old.base_url
            visitors.visit(limit=1_000_000)
            visitors.wait_for(answers=60)
            old.terminate()
        stored_before = len(site.rows("request", "id"))
        if recovered == RESTART:
            del site.audit["DRAIN"]

        with site.serve(SERVERS[name]) as new:
            visitors.base_url = new.base_url
            visitors.wait_for(answers=len(visitors.answered) + 60)
            if recovered == RESTART:
                before = set(visitors.answered)
                assert until(lambda: site.recorded().keys() >= before, timeout=30), site.log
            new.terminate()
        visitors.leave()

    site.drain()  # after a restart: the last moments of the new server
    assert stored_before == 0
    visitors.assert_recorded_once(site)
    assert_the_equation_holds(site)
    assert site.spooled() == []
