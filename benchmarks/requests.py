"""The cost of an audited request, every variant in a process of its own, interleaved in one run.

The machine's speed drifts, so each round runs every variant once, in random order, and figures are medians over the
rounds. ``wall`` is what one request takes longer than bare; ``cpu`` is what the process computes more for it,
encoding, spooling and storing its records in the background included.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.worker import ANCESTOR, BARE, LEAN, ON_TOP, OTEL, VARIANTS

SCENARIOS = ("get", "post", "sign-in")
ANCESTOR_PACKAGE = "drf-audit-trail==0.4.4"
HERE = Path(__file__).resolve().parent


class Worker:
    """One variant's process."""

    def __init__(self, variant: str, python: str, directory: Path) -> None:
        environment = {**os.environ, "SHOP_VAR": str(directory), "OTEL_AUDIT_SPOOL_DIR": str(directory / "spool")}
        self.process = subprocess.Popen(
            [python, str(HERE / "worker.py"), variant],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        if self._read() != "ready":
            raise RuntimeError(f"the worker of {variant!r} did not start")

    def run(self, scenario: str, requests: int) -> dict[str, Any]:
        """Send ``requests`` requests and return what the worker measured."""
        assert self.process.stdin is not None
        print(scenario, requests, file=self.process.stdin, flush=True)
        measured: dict[str, Any] = json.loads(self._read())
        return measured

    def stop(self) -> None:
        """End the process."""
        self.process.communicate(timeout=60)

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a worker ended early; its error stands above")
        return line.strip()


def measure(rounds: int, requests: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Return, per scenario and variant, the median wall and CPU time of a request in µs."""
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        workers = {
            variant: Worker(variant, _python(variant), _made(Path(directory) / variant.replace("+", "-")))
            for variant in VARIANTS
        }
        for number in range(rounds + 1):
            for scenario in SCENARIOS:
                for variant in random.sample(VARIANTS, len(VARIANTS)):
                    measured = workers[variant].run(scenario, requests)
                    if number:  # the first round warms up
                        wall = statistics.median(measured["wall_us"])
                        taken.setdefault((scenario, variant), []).append((wall, measured["cpu_us"]))
        for worker in workers.values():
            worker.stop()
    return {
        scenario: {
            variant: (
                statistics.median(wall for wall, _ in taken[scenario, variant]),
                statistics.median(cpu for _, cpu in taken[scenario, variant]),
            )
            for variant in VARIANTS
        }
        for scenario in SCENARIOS
    }


def table(figures: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Return the figures as a Markdown table, with ratios."""
    lines = ["| | " + " | ".join(f"{name} wall | {name} cpu" for name in SCENARIOS) + " |"]
    lines.append("|---" * (1 + 2 * len(SCENARIOS)) + "|")
    for variant in VARIANTS:
        cells = []
        for scenario in SCENARIOS:
            for index in (0, 1):
                value, bare = figures[scenario][variant][index], figures[scenario][BARE][index]
                cells.append(f"{value:.0f} µs" if variant == BARE else f"+{value - bare:.0f} µs ({value / bare:.2f} x)")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    for index, name in enumerate(("wall", "cpu")):
        for scenario in SCENARIOS:
            found = figures[scenario]
            lean = found[LEAN][index] - found[BARE][index]
            ancestor = found[ANCESTOR][index] - found[BARE][index]
            top = found[ON_TOP][index] - found[OTEL][index]
            lines.append(
                f"\n{scenario}, {name}: lean adds {lean / ancestor:.2f} of what {ANCESTOR_PACKAGE} adds; "
                f"on top of the instrumentation {top:+.0f} µs."
            )
    return "\n".join(lines)


def _python(variant: str) -> str:
    """Return the interpreter of a variant: the ancestor needs an environment of its own."""
    if variant != ANCESTOR:
        return sys.executable
    home = HERE / ".venv-ancestor"
    python = home / "bin" / "python"
    if not python.exists():
        import django

        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        packages = [ANCESTOR_PACKAGE, f"Django=={django.__version__}", "djangorestframework-simplejwt", "setuptools"]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    return str(python)


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
