"""``python -m benchmarks [--rounds N] [--requests N] [WHAT …]``: print what auditing costs.

``WHAT`` is any of ``requests``, ``delivery``, ``redaction``, ``receiver``, ``kafka``, ``forwarding``; without it, all.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

from benchmarks import delivery, forwarding, kafka, receiver, redaction, requests

WHAT = ("requests", "delivery", "redaction", "receiver", "kafka", "forwarding")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What auditing costs.")
    parser.add_argument("what", nargs="*", choices=(*WHAT, []), help="what to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds, each with every variant once (default 15)")
    parser.add_argument("--requests", type=int, default=150, help="requests per variant and round (default 150)")
    arguments = parser.parse_args()
    what = arguments.what or WHAT
    print(f"Python {platform.python_version()}, {platform.machine()}; {speed()} before")
    if "requests" in what:
        print(f"\nRequests, {arguments.rounds} rounds of {arguments.requests}\n")
        print(requests.table(requests.measure(arguments.rounds, arguments.requests)))
    if "delivery" in what:
        print(f"\nDelivery\n\n{delivery.table()}")
    if "redaction" in what:
        print(f"\nRedaction of a body, medians\n\n{redaction.table()}")
    if "forwarding" in what:
        print(f"\nForwarding\n\n{forwarding.table(arguments.rounds, arguments.requests)}")
    if "receiver" in what:
        print(f"\nReceiving over HTTP\n\n{receiver.table()}")
    if "kafka" in what:
        print(f"\nOver Kafka\n\n{kafka.table()}")
    print(f"\n{speed()} after")


def speed() -> str:
    """Say how fast interpreter and machine are now, so that figures of two machines, or of two minutes, compare."""
    taken = []
    for _ in range(10_000):
        began = time.perf_counter()
        sum(range(500))
        taken.append((time.perf_counter() - began) * 1e6)
    return f"sum(range(500)) took {statistics.median(taken):.1f} µs"


if __name__ == "__main__":
    main()
