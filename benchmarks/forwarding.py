"""What forwarding spans to a collector adds to an audited request, interleaved as in `benchmarks.requests`.

The request waits for its own thread alone: so what counts is the CPU time of that thread, with ``DRAIN="external"``, so
that no other one takes the interpreter from it meanwhile. The collector is a process of its own that answers at once.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.requests import SCENARIOS, Worker
from benchmarks.worker import DURABLE, FORWARDED, FORWARDING, LEAN

WANTED = "≤ 20 µs"
_VARIANTS = (LEAN, *FORWARDING)
_SAID = {FORWARDED: "`OTLP`", DURABLE: '`OTLP` with `"durable": True`'}


def table(rounds: int, requests: int) -> str:
    """Measure, and return the figures as a Markdown table."""
    lines = ["| Forwarding adds, on the thread of the request | " + " | ".join(SCENARIOS) + " | wanted |"]
    lines.append("|---" * (len(SCENARIOS) + 2) + "|")
    figures = _measure(rounds, requests)
    for variant in FORWARDING:
        cells = (f"{figures[scenario, variant] - figures[scenario, LEAN]:+.1f} µs" for scenario in SCENARIOS)
        lines.append(f"| {_SAID[variant]} | {' | '.join(cells)} | {WANTED} |")
    return "\n".join(lines)


def _measure(rounds: int, requests: int) -> dict[tuple[str, str], float]:
    """Return, per scenario and variant, the median CPU time of a request's thread in µs."""
    taken: dict[tuple[str, str], list[float]] = {}
    with _collector() as endpoint, tempfile.TemporaryDirectory() as directory:
        os.environ["BENCHMARK_COLLECTOR"] = endpoint
        workers = {}
        for variant in _VARIANTS:
            place = Path(directory) / variant.replace("+", "-").replace(" ", "-")
            place.mkdir()
            workers[variant] = Worker(variant, sys.executable, place)
        for number in range(rounds + 1):
            for scenario in SCENARIOS:
                for variant in random.sample(_VARIANTS, len(_VARIANTS)):
                    measured = workers[variant].run(scenario, requests)
                    if number:  # the first round warms up
                        taken.setdefault((scenario, variant), []).append(statistics.median(measured["thread_us"]))
        for worker in workers.values():
            worker.stop()
    return {key: statistics.median(found) for key, found in taken.items()}


@contextmanager
def _collector() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.forwarding"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/traces"
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    """Be a collector that takes everything and keeps nothing; say at which port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
