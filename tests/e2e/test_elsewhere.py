"""Outside a server: the development server that reloads, commands, scripts, other processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.shop import SITE, Shop, until
from tests.e2e.visitors import Visitors

pytestmark = pytest.mark.e2e


def test_runserver_records_before_and_after_it_reloads(shop: Shop) -> None:
    shop.settings["DEBUG"] = True
    watched = shop.directory / "site" / "touched.py"
    watched.parent.mkdir()
    watched.write_text("VERSION = 1\n")
    shop.python_path = [watched.parent]
    shop.environment = {"E2E_IMPORT": "touched"}

    with shop.serve(["-m", "django", "runserver", "127.0.0.1:{port}"]) as server, Visitors(server.base_url) as visitors:
        before = [visitors.ask() for _ in range(5)]
        (first,) = server.children()
        _touch_until(lambda: server.children() not in ([], [first]), watched)
        after = [_ask_until_answered(visitors) for _ in range(5)]

        assert until(lambda: shop.recorded().keys() >= {*before, *after}, timeout=3), shop.log

        os.killpg(server.process.pid, signal.SIGTERM)
        server.process.wait(10)
    shop.drain()
    visitors.assert_recorded_once(shop)


def test_a_command_is_recorded_however_it_writes_its_processes(shop: Shop) -> None:
    shop.manage("takestock")

    shop.drain()

    assert [name for (name,) in shop.rows("process", "name")] == ["Stock of the shop", "Stock of the storehouse"]
    assert [name for (name,) in shop.rows("step", "name")] == ["Count", "Count"]
    assert [name for (name,) in shop.rows("registration", "name")] == ["counted", "counted"]
    assert shop.spooled() == []


def test_a_script_that_flushes_has_its_rows_when_it_ends(shop: Shop) -> None:
    said = shop.run(SITE / "night_shift.py", "plain")

    assert "left 0" in said
    assert shop.rows("process", "name", "actor_name") == [("Night shift", "backoffice")]
    assert len(shop.rows("registration", "id")) == 1


def test_a_script_that_leaves_by_os_exit_loses_nothing(shop: Shop) -> None:
    shop.run(SITE / "night_shift.py", "os._exit")

    shop.drain()

    assert shop.rows("process", "name") == [("Night shift",)]
    assert len(shop.rows("step", "id")) == len(shop.rows("registration", "id")) == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes_record_once_each(shop: Shop, method: str) -> None:
    shop.run("-W", "ignore::DeprecationWarning", SITE / "night_shift.py", method)

    shop.drain()

    names = sorted(name for (name,) in shop.rows("process", "name"))
    assert names == ["Night shift", "Night shift 1", "Night shift 2"]
    assert len(shop.rows("step", "id")) == len(shop.rows("registration", "id")) == 3
    assert shop.spooled() == []


def _touch_until(condition: Callable[[], bool], path: Path) -> None:
    """Change a source file until the reloader, which looks once a second, has seen it."""

    def touched() -> bool:
        path.write_text(f"{path.read_text()}#\n")
        return condition()

    assert until(touched, timeout=10, pause=0.3)


def _ask_until_answered(visitors: Visitors) -> str:
    """Ask until the server that restarts takes connections again; what it refused was never sent."""
    number = until(lambda: (asked := visitors.ask()) in visitors.answered and asked, timeout=10, pause=0.1)
    assert number
    return str(number)
