"""Whatever serves the shop, and however it is stopped: what was answered was recorded, once."""

from __future__ import annotations

import pytest

from tests.e2e.shop import SERVERS, Shop, until
from tests.e2e.visitors import Visitors

pytestmark = pytest.mark.e2e

VISIBLE_S = 1.0
REQUIRED = ["gunicorn sync", "gunicorn gthread", "gunicorn --preload", "uvicorn", "uvicorn, two workers"]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_row_is_there_within_a_second_while_the_server_goes_on(shop: Shop, name: str) -> None:
    with shop.serve(SERVERS[name]) as server, Visitors(server.base_url) as visitors:
        visitors.ask()  # the first one starts the threads of a worker

        numbers = [visitors.ask() for _ in range(3)]

        assert until(lambda: shop.recorded().keys() >= set(numbers), timeout=VISIBLE_S), shop.log


def test_the_next_start_brings_in_what_a_killed_server_has_left(shop: Shop) -> None:
    shop.settings["OTEL_AUDIT"] = {"DRAIN": "external"}
    with shop.serve(SERVERS["gunicorn gthread"]) as server, Visitors(server.base_url) as visitors:
        numbers = {visitors.ask() for _ in range(20)}
        server.kill_group()
    assert not shop.recorded()
    shop.settings["OTEL_AUDIT"] = {}

    with shop.serve(SERVERS["uvicorn"]):
        assert until(lambda: shop.recorded().keys() >= numbers, timeout=5)

    visitors.assert_recorded_once(shop)
