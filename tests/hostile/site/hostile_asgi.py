"""The site as ASGI application, behind OpenTelemetry's own instrumentation where a test asks for it."""

import os

from django.core.asgi import get_asgi_application

if os.environ.get("HOSTILE_INSTRUMENTED"):
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    DjangoInstrumentor().instrument()

application = get_asgi_application()
