"""gunicorn's settings of a site that makes its provider in each worker, as OpenTelemetry's documentation advises."""

import os
from typing import Any


def post_fork(_server: Any, _worker: Any) -> None:
    """Forward the spans of this worker, to where no variable of OpenTelemetry says."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(os.environ["SITE_COLLECTOR"])))
    trace.set_tracer_provider(provider)
