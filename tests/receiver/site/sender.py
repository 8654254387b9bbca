"""Run as a program: a service with OpenTelemetry alone that sends processes until its work is done.

Usage: sender.py ENDPOINT TOKEN PROCESSES. It sends each batch until the receiver has taken it, and prints the names of
the processes as their batch is acknowledged.
"""

import sys
import time

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

BATCH = 5


def main() -> None:
    """Send."""
    endpoint, token, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "till"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("till")
    headers = {"authorization": f"Bearer {token}"}
    exporter = OTLPSpanExporter(endpoint=endpoint, headers=headers, timeout=2, compression=Compression.Gzip)
    for first in range(0, count, BATCH):
        names = [f"sale {number}" for number in range(first, min(first + BATCH, count))]
        for name in names:
            with (
                tracer.start_as_current_span(name, attributes={"audit.kind": "process"}),
                tracer.start_as_current_span("pay", attributes={"audit.kind": "step"}) as span,
            ):
                span.add_event("audit.registration", {"audit.registration.success": True})
        spans = kept.get_finished_spans()
        kept.clear()
        while exporter.export(spans) is not SpanExportResult.SUCCESS:
            time.sleep(0.05)
        print("\n".join(names), flush=True)


if __name__ == "__main__":
    main()
