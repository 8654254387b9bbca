"""A process goes on in a real worker of Celery; what runs there is the code of the page on it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_django

from tests.e2e.shop import SITE
from tests.fresh_databases import fresh_databases
from tests.receiver.serving import PROCESS, REGISTRATION, SECRET, STEP, Site, until

PAGE = Path(__file__).parents[2] / "docs" / "celery.md"
REQUEST = "otel_audit_requestauditevent"
GUNICORN = ["-m", "gunicorn", "receiving_wsgi", "--bind", "fd://{fd}", "--threads", "2"]
WORKER = ["-m", "celery", "-A", "shop", "worker", "--concurrency", "2"]
KEY = "the-key-of-the-shop" * 3

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("celery", "opentelemetry.instrumentation.celery")),
        reason="NOT TESTED: Celery and its instrumentation are not here; pip install --group test.",
    ),
]


class Queue:
    """A site and its worker: the same code, each as a service of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._code = site.directory / "code"
        self._folder = site.directory / "queue"
        for folder in (self._folder, self._code / "shop"):
            folder.mkdir(parents=True)
        for name, text in re.findall(r"^```python\n# shop/(\w+\.py)\n(.*?)^```", PAGE.read_text(), re.M | re.S):
            with (self._code / "shop" / name).open("a") as module:
                module.write(text)

    def environment(self, service: str, key: str, **audit: Any) -> dict[str, str]:
        """Return the environment of one of them."""
        found = self.site.environment
        told = json.loads(found["RECEIVING_SETTINGS"])
        told["SECRET_KEY"] = key
        told["OTEL_AUDIT"] = {
            "DATABASE": "audit",
            "SPOOL_DIR": str(self.site.directory / service),
            "SERVICE_NAME": service,
            **audit,
        }
        return {
            **found,
            "PYTHONPATH": os.pathsep.join([str(self._code), str(SITE), found["PYTHONPATH"]]),
            "DJANGO_SETTINGS_MODULE": "queueing_settings",
            "RECEIVING_SETTINGS": json.dumps(told),
            "E2E_QUEUE": str(self._folder),
        }


@pytest.fixture
def queue(tmp_path: Path, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Queue]:
    """Nothing runs yet."""
    with fresh_databases(["default", "audit"], tmp_path, django_db_blocker) as databases:
        yield Queue(Site(tmp_path, databases))


def goes_on(queue: Queue, path: str, shop: dict[str, str], worker: dict[str, str]) -> list[tuple[Any, ...]]:
    """Have a view of the shop queue a task, and a worker run it; return the steps and their links, in order."""
    site = queue.site
    with socket.create_server(("127.0.0.1", 0)) as listener, site.running(listener, GUNICORN, shop) as server:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
        assert httpx.get(url, params={"number": "A-17"}, trust_env=False, timeout=60).status_code == 202, site.log()
        with site.running(None, WORKER, worker) as running:
            assert until(lambda: len(site.query(f"SELECT id FROM {REGISTRATION}")) == 2), site.log()
            site.stopped(running)
        site.stopped(server)
    order = "`order`" if "mysql" in site.databases.settings["audit"]["ENGINE"] else '"order"'
    return site.query(
        f"SELECT s.name, s.service_name, s.{order}, p.name, p.service_name, q.url, r.name FROM {STEP} s"
        f" JOIN {PROCESS} p ON s.process_id = p.id AND s.trace_id = p.trace_id"
        f" JOIN {REGISTRATION} r ON r.step_id = s.id"
        f" JOIN {REQUEST} q ON p.request_id = q.id AND q.trace_id = p.trace_id ORDER BY s.datetime"
    )


def test_a_process_goes_on_in_the_task_that_gets_its_carrier(queue: Queue) -> None:
    shop, worker = (queue.environment(service, KEY) for service in ("shop", "worker"))

    steps = goes_on(queue, "/order/", shop, worker)

    assert steps == [
        ("Take", "shop", 1, "Order", "shop", "/order/", "taken"),
        ("Deliver", "worker", 2, "Order", "shop", "/order/", "delivered"),
    ]
    assert queue.site.query(f"SELECT name FROM {PROCESS}") == [("Order",)]
    below = f"SELECT s.name FROM {STEP} s JOIN {PROCESS} p ON s.parent_span_id = p.span_id ORDER BY s.datetime"
    assert queue.site.query(below) == [("Take",), ("Deliver",)]


@pytest.mark.parametrize("known", [True, False], ids=["the same secret", "another secret"])
def test_a_process_goes_on_in_a_task_by_trace_context_where_both_have_a_secret(queue: Queue, known: bool) -> None:
    shop = queue.environment("shop", KEY, TRUSTED_PEERS=[{"secret": SECRET if known else SECRET[::-1]}])
    worker = queue.environment("worker", KEY[::-1], TRUSTED_PEERS=[{"secret": SECRET}])

    steps = goes_on(queue, "/parcel/", shop, worker)

    assert [(name, service, process, registered) for name, service, _, process, _, _, registered in steps] == [
        ("Weigh", "shop", "Parcel", "weighed"),
        *([("Pack", "worker", "Parcel", "packed")] if known else []),
    ]
    assert queue.site.query(f"SELECT name FROM {PROCESS}") == [("Parcel",)]
    assert queue.site.query(f"SELECT count(DISTINCT trace_id) FROM {STEP}") == [(1,)]
