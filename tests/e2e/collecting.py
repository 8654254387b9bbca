"""An OTLP collector as a process that can be killed: what it has confirmed is on the disk.

Run as ``python -m tests.e2e.collecting PORT FILE``; each span becomes a line of trace id, span id and name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["collected", "collector_process"]

ROOT = Path(__file__).parents[2]
STARTED = b"collecting\n"


@contextmanager
def collector_process(port: int, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the collector until the end of the block, where it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.collecting", str(port), str(file)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == STARTED
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def collected(file: Path) -> list[tuple[str, str]]:
    """Return trace id and span id of every span that was confirmed; a line that a kill cut off is none."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [(words[0], words[1]) for line in lines if len(words := line.split("\t")) == 3]


def _main(port: int, file: Path) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            lines = [
                f"{span.trace_id.hex()}\t{span.span_id.hex()}\t{span.name}\n"
                for spans in request.resource_spans
                for scope in spans.scope_spans
                for span in scope.spans
            ]
            os.write(fd, ("\n" + "".join(lines)).encode())
            time.sleep(0.02)  # so that a kill also comes between keeping and confirming
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        sys.stdout.buffer.write(STARTED)
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    _main(int(sys.argv[1]), Path(sys.argv[2]))
