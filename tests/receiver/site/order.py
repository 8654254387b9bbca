"""Run as a program: a service that begins a process and has it go on elsewhere.

Usage: order.py [URL|--plain]. It calls the URL with the carrier of the process as headers; without one it prints the
carrier, or the headers that OpenTelemetry alone sends.
"""

import json
import sys
from urllib.request import ProxyHandler, Request, build_opener

import django
from opentelemetry.propagate import inject


def main() -> None:
    """Take an order."""
    from otel_audit import carrier, flush, process

    with process("Order") as p:
        with p.step("Take", expect=0):
            pass
        plain: dict[str, str] = {}
        inject(plain)
        carried = plain if sys.argv[1:] == ["--plain"] else carrier(p)
        if sys.argv[1:] not in ([], ["--plain"]):
            # Its own network is this machine: no proxy stands between.
            with build_opener(ProxyHandler({})).open(Request(sys.argv[1], headers=carried), timeout=30) as answer:
                answer.read()
        else:
            print(json.dumps(carried))
    sys.exit(flush(30))


if __name__ == "__main__":
    django.setup()
    main()
