"""``python -m benchmarks [--rounds N] [--requests N]``: print what an audited request costs."""

from __future__ import annotations

import argparse
import platform

from benchmarks import requests


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What an audited request costs.")
    parser.add_argument("--rounds", type=int, default=15, help="rounds, each with every variant once (default 15)")
    parser.add_argument("--requests", type=int, default=150, help="requests per variant and round (default 150)")
    arguments = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {arguments.rounds} rounds of {arguments.requests}"
    )
    print(requests.table(requests.measure(arguments.rounds, arguments.requests)))


if __name__ == "__main__":
    main()
