"""Visitors of the shop who know what they asked and what was answered: the client's side of the account."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import httpx

from tests.e2e.shop import Shop

__all__ = ["Visitors"]

PAGES = (
    "/api/products/",
    "/api/products/1/",
    "/api/stock/kettle/",
    "/api/nowhere/",
    "/api/products/2/",
    "/api/crash/",
)
_PAUSE_S = 0.01


class Visitors:
    """Several threads that ask the shop for pages; each request carries its number as ``?n=``.

    ``sent`` and ``answered`` hold the numbers as they stand in the row's query string; ``seconds`` says how long each
    answer took, in their order. ``base_url`` may be changed at any time.
    """

    def __init__(self, base_url: str, *, threads: int = 4, pages: Sequence[str] = PAGES) -> None:
        self.base_url = base_url
        self.sent: set[str] = set()
        self.answered: set[str] = set()
        self.seconds: list[float] = []
        self._pages = pages
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._progress = threading.Condition(self._lock)
        self._threads = [threading.Thread(target=self._visit, daemon=True) for _ in range(threads)]
        self._limit = 0

    def __enter__(self) -> Visitors:
        return self

    def __exit__(self, *exception: object) -> None:
        self.leave()

    def visit(self, limit: int) -> None:
        """Begin to ask, in the background, until ``limit`` requests were sent or `leave` is called."""
        self._limit = limit
        for thread in self._threads:
            thread.start()

    def wait_for(self, answers: int, *, timeout: float = 60) -> None:
        """Wait until ``answers`` requests were answered."""
        with self._progress:
            assert self._progress.wait_for(lambda: len(self.answered) >= answers, timeout), len(self.answered)

    def finish(self, *, timeout: float = 30) -> None:
        """Wait until all requests were sent."""
        for thread in self._threads:
            thread.join(timeout)
            assert not thread.is_alive()

    def leave(self) -> None:
        """Ask for nothing more."""
        self._stop.set()
        if self._limit:
            self.finish()

    def ask(self, path: str = "/api/products/", client: Any = httpx) -> str:
        """Send one request; return its number. What the server does not answer is no error."""
        with self._lock:
            number = f"n={next(self._numbers)}"
            self.sent.add(number)
        began = time.perf_counter()
        try:
            client.get(f"{self.base_url}{path}?{number}", timeout=20)
        except httpx.TransportError:
            self._stop.wait(_PAUSE_S)  # nobody may be there at the moment
            return number
        with self._progress:
            self.seconds.append(time.perf_counter() - began)
            self.answered.add(number)
            self._progress.notify_all()
        return number

    def assert_recorded_once(self, shop: Shop) -> None:
        """Each answered request has one row; others, which were cut off, have one at most."""
        recorded = shop.recorded()

        assert sorted(self.answered - recorded.keys()) == []
        assert [number for number, rows in recorded.items() if rows > 1] == []
        assert sorted(recorded.keys() - self.sent) == []

    def _visit(self) -> None:
        with httpx.Client(trust_env=False) as client:
            while not self._stop.is_set() and len(self.sent) < self._limit:
                self.ask(self._pages[len(self.sent) % len(self._pages)], client)
