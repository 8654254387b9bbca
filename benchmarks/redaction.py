"""The cost of redacting a JSON body, as the guard does it: ``python -m benchmarks redaction``.

Every body is another one, so that nothing is remembered from the one before. Targets: 60 µs for 2 KB, 2 ms for 64 KB.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from otel_audit.redaction import Marker, Redactor

SIZES = (2 * 1024, 64 * 1024)
REPEATS = {SIZES[0]: 2000, SIZES[1]: 200}
_numbers = count(1)


def products(size: int) -> bytes:
    """Return a list of products, without a secret."""
    return _list(size, _product)


def products_with_sign_in(size: int) -> bytes:
    """Return the same, and beside it a password and a token."""
    return _list(size - 100, _product, password="correct horse", token=f"{next(_numbers):040x}")


def accounts(size: int) -> bytes:
    """Return a list in which every entry has secrets: by name, by shape, in an address."""
    return _list(size, _account)


def texts(size: int) -> bytes:
    """Return a few long texts, as of articles."""
    words = "The tea was picked by hand at 1,200 metres and dried for two days; it tastes of chestnuts. "
    return json.dumps({"id": next(_numbers), "title": "Tea", "body": words * (size // len(words))}).encode()


DOCUMENTS: dict[str, Callable[[int], bytes]] = {
    "list of products, no secret": products,
    "the same with a password and a token": products_with_sign_in,
    "long text, no secret": texts,
    "list of accounts, four secrets each": accounts,
}


def _product(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "sku": f"sku-{number}",
        "name": "A product of some length",
        "price": "12.50",
        "stock": 5,
        "tags": ["a", "green tea"],
        "created": "2026-11-24T10:00:00Z",
        "owner": {"email": f"ada{number}@example.com", "active": True},
    }


def _account(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "user": f"ada{number}",
        "password": "correct horse",
        "apiKey": f"{number:040x}",
        "card": "4111 1111 1111 1111",
        "feed": f"https://ada:s3cret{number}@example.com/feed",
    }


def _list(size: int, item: Callable[[int], dict[str, Any]], **beside: Any) -> bytes:
    return json.dumps({**beside, "results": list(_fill(size, item))}).encode()


def _fill(size: int, item: Callable[[int], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    length = 0
    while True:
        made = item(next(_numbers))
        length += len(json.dumps(made)) + 2
        if length > size and length > len(json.dumps(made)) + 2:
            return
        yield made


def measure(redactor: Redactor, make: Callable[[int], bytes], size: int) -> float:
    """Return the median time in µs that a body of about ``size`` bytes takes."""
    taken = []
    for _ in range(REPEATS[size]):
        raw = make(size)
        began = time.perf_counter_ns()
        redactor.body(raw, "application/json", total_size=len(raw), sha256=None, truncated=False)
        taken.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(taken)


def table() -> str:
    """Return the figures as a Markdown table."""
    keyed = Redactor(marker=Marker({"k1": b"k" * 32}))
    lines = ["| JSON body | 2 KB | 64 KB |", "|---|---|---|"]
    for redactor, beside in ((Redactor(), ""), (keyed, ", keyed marks")):
        for name, make in DOCUMENTS.items():
            cells = [f"{measure(redactor, make, size):.0f} µs" for size in SIZES]
            lines.append(f"| {name}{beside} | {' | '.join(cells)} |")
    return "\n".join(lines)
