"""Run as a program: forks processes that append from several threads, kills them, says what they were told.

Usage: python -m tests.faults.killed DIRECTORY FINGERPRINT KILLS SEED. Prints the id of every acknowledged record.
It has one thread of its own, so that forking is safe.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import django
from django.conf import settings

THREADS = 4


def main() -> None:
    """Kill a process in full swing as often as told."""
    settings.configure(INSTALLED_APPS=["otel_audit"], DATABASES={})
    django.setup()
    directory, fingerprint, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    for _ in range(kills):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            append_until_killed(directory, fingerprint, writing)
        os.close(writing)
        time.sleep(chance.uniform(0.005, 0.08))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        acknowledged = b""
        while part := os.read(reading, 1 << 20):
            acknowledged += part
        os.close(reading)
        for line in acknowledged.split(b"\n")[:-1]:  # the last may be cut off
            print(line.decode())


def append_until_killed(directory: Path, fingerprint: str, told: int) -> None:
    """Append from several threads; write each id to ``told`` after its append has returned."""
    from otel_audit_exporters.spool import SpoolWriter
    from tests.exporters.spooling import make_record

    # Small segments, so that many kills hit a rotation.
    writer = SpoolWriter(directory, fingerprint, 1 << 30, segment_bytes=20_000)

    def work() -> None:
        while True:
            record = make_record("x" * random.randrange(400))
            writer.append([record])
            os.write(told, record.id.encode() + b"\n")

    for _ in range(THREADS - 1):
        threading.Thread(target=work).start()
    work()


if __name__ == "__main__":
    main()
