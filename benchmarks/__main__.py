"""``python -m benchmarks [requests|delivery] [--rounds N] [--requests N]``: print what auditing costs."""

from __future__ import annotations

import argparse
import platform

from benchmarks import delivery, requests


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What auditing costs.")
    parser.add_argument(
        "what", nargs="?", choices=["requests", "delivery"], help="the cost of a request, or of delivering (both)"
    )
    parser.add_argument("--rounds", type=int, default=15, help="rounds, each with every variant once (default 15)")
    parser.add_argument("--requests", type=int, default=150, help="requests per variant and round (default 150)")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}")
    if arguments.what != "delivery":
        print(f"\nA request: {arguments.rounds} rounds of {arguments.requests}\n")
        print(requests.table(requests.measure(arguments.rounds, arguments.requests)))
    if arguments.what != "requests":
        print("\nDelivery\n")
        print(delivery.table())


if __name__ == "__main__":
    main()
