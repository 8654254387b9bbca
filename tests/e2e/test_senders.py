"""Services in other languages, and another Django site: what they send is right, and a process goes on in them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener
from uuid import uuid4

import pytest
import pytest_django

from tests.e2e.toolchains import golang, javascript
from tests.fresh_databases import fresh_databases
from tests.receiver.serving import PROCESS, RECEIVE, REGISTRATION, SECRET, START_S, STEP, Site, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

#: Name → what builds its command, and its arguments.
SENDERS: dict[str, tuple[Callable[[], list[str]], list[str]]] = {
    "JavaScript, protobuf": (javascript, ["proto"]),
    "JavaScript, JSON": (javascript, ["json"]),
    "Go": (golang, []),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Site]:
    """A site that receives; each test looks at a service of its own."""
    directory = tmp_path_factory.mktemp("site")
    with fresh_databases(["default", "audit"], directory, django_db_blocker) as databases:
        yield Site(directory, databases)


@pytest.fixture(scope="module")
def port(site: Site) -> Iterator[int]:
    """Where its receiver listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener, site.running(listener, RECEIVE):
        yield listener.getsockname()[1]


@pytest.fixture(params=SENDERS)
def command(request: pytest.FixtureRequest) -> list[str]:
    """The command of each sender, built."""
    build, arguments = SENDERS[request.param]
    return [*build(), *arguments]


def send(site: Site, port: int, command: list[str], **told: str) -> None:
    """Run a sender until it has sent; the standard variables say where to and who it is."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    done = subprocess.run(
        command,
        env={
            **kept,
            "OTEL_SERVICE_NAME": "till",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{port}/v1/traces",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"authorization=Bearer%20{site.token}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            **told,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + site.log()


def rows(site: Site, sql: str, count: int) -> list[tuple[Any, ...]]:
    """Return rows, when there are so many."""
    assert until(lambda: len(site.query(sql)) >= count), site.log()
    return site.query(sql)


def place(site: Site) -> str:
    """Return the column of a step's order, whose name is a word of SQL."""
    return "`order`" if "mysql" in site.databases.settings["audit"]["ENGINE"] else '"order"'


def test_a_process_that_another_language_sends_has_its_steps_and_registrations(
    site: Site, port: int, command: list[str]
) -> None:
    till = f"at till {uuid4()}"

    send(site, port, command, TILL=till)

    columns = "id, name, service_name, outcome, created_by, extra_informations"
    (sale,) = rows(site, f"SELECT {columns} FROM {PROCESS} WHERE description = '{till}'", 1)
    columns = f"id, name, outcome, {place(site)}, total_registrations"
    steps = rows(site, f"SELECT {columns} FROM {STEP} WHERE process_id = '{sale[0]}' ORDER BY datetime, name", 2)
    columns = "name, success, description, extra_informations"
    sql = f"SELECT {columns} FROM {REGISTRATION} WHERE step_id = '{steps[0][0]}' ORDER BY datetime, name"
    (stock, voucher) = rows(site, sql, 2)
    assert sale[1:5] == ("Sale", "till", "success", "42")
    assert "till.number" in str(sale[5])
    assert [step[1:] for step in steps] == [("Check", "success", 1, 2), ("Pay", "failure", 2, 1)]
    assert (stock[0], bool(stock[1]), "left" in str(stock[3])) == ("stock", True, True)
    assert (voucher[0], bool(voucher[1]), voucher[2]) == ("voucher", False, "expired")


def test_a_process_that_began_in_a_django_site_goes_on_in_another_language(
    site: Site, port: int, command: list[str]
) -> None:
    carrier = site.order()

    send(site, port, command, CARRIER=carrier)

    trace_id = json.loads(carrier)["traceparent"].split("-")[1]
    ((process,),) = rows(site, f"SELECT process_id FROM {STEP} WHERE name = 'Deliver' AND trace_id = '{trace_id}'", 1)
    found = f"SELECT name, service_name, trace_id FROM {PROCESS} WHERE id = '{process}'"
    assert site.query(found) == [("Order", "shop", trace_id)]
    steps = f"SELECT name, service_name, {place(site)} FROM {STEP} WHERE process_id = '{process}' ORDER BY datetime"
    assert site.query(steps) == [("Take", "shop", 1), ("Deliver", "till", 2)]


def test_a_process_that_began_in_a_django_site_goes_on_in_another_language_by_plain_w3c_context(
    site: Site, port: int, command: list[str]
) -> None:
    headers = site.order("--plain")

    send(site, port, command, CARRIER=headers)

    told = json.loads(headers)
    trace_id = told["traceparent"].split("-")[1]
    ((process,),) = rows(site, f"SELECT process_id FROM {STEP} WHERE name = 'Deliver' AND trace_id = '{trace_id}'", 1)
    found = f"SELECT name, service_name, trace_id FROM {PROCESS} WHERE id = '{process}'"
    assert sorted(told) == ["traceparent", "tracestate"]
    assert site.query(found) == [("Order", "shop", trace_id)]
    steps = f"SELECT name, service_name FROM {STEP} WHERE process_id = '{process}' ORDER BY datetime"
    assert site.query(steps) == [("Take", "shop"), ("Deliver", "till")]


GUNICORN = ["-m", "gunicorn", "receiving_wsgi", "--bind", "fd://{fd}", "--threads", "2"]


def test_a_process_that_began_in_a_django_site_goes_on_in_another_that_trusts_it(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, site.running(listener, GUNICORN) as server:
        site.order(f"http://127.0.0.1:{listener.getsockname()[1]}/ship/")
        site.stopped(server)
    site.drained()

    taken = f"SELECT process_id FROM {STEP} WHERE name = 'Take'"
    shipped = f"SELECT process_id, trace_id FROM {STEP} WHERE name = 'Ship' AND process_id IN ({taken})"
    ((process, trace_id),) = site.query(shipped)
    found = site.query(f"SELECT name, service_name, trace_id FROM {PROCESS} WHERE id = '{process}'")
    assert found == [("Order", "shop", trace_id)]
    steps = f"SELECT name FROM {STEP} WHERE process_id = '{process}' ORDER BY datetime"
    assert site.query(steps) == [("Take",), ("Ship",)]


@pytest.mark.parametrize(("secret", "goes_on"), [(SECRET, True), (SECRET[::-1], False)])
def test_a_process_goes_on_in_a_site_that_its_view_calls_if_both_have_a_secret(
    site: Site, secret: str, goes_on: bool
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as here,
        socket.create_server(("127.0.0.1", 0)) as there,
        site.running(here, GUNICORN) as server,
        site.running(there, GUNICORN, site.shop(secret)) as shop,
    ):
        trace_id = uuid4().hex
        headers = {"traceparent": f"00-{trace_id}-{uuid4().hex[:15]}1-01"}
        shipping, ordering = (f"http://127.0.0.1:{one.getsockname()[1]}" for one in (here, there))
        with build_opener(ProxyHandler({})).open(
            Request(f"{ordering}/order/?ship={shipping}/ship/", headers=headers), timeout=START_S
        ) as answer:
            assert answer.status == 204
        ((process,),) = rows(site, f"SELECT id FROM {PROCESS} WHERE trace_id = '{trace_id}'", 1)
        found = f"SELECT name, process_id, service_name FROM {STEP} WHERE trace_id = '{trace_id}' ORDER BY name"
        steps = rows(site, found, 2)
        for one in (shop, server):
            site.stopped(one)

    assert [(name, owner == process) for name, owner, _ in steps] == [("Hand over", True), ("Ship", goes_on)]
    assert [service == "shop" for *_, service in steps] == [True, False]
