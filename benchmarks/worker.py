"""The demo shop in one process and one variant; sends itself requests on command and answers with microseconds.

Run as a script by the interpreter of the variant, so it imports nothing of ``otel_audit`` by itself. Reads lines
``SCENARIO COUNT`` from standard input and answers each with a JSON line
``{"wall_us": [...], "thread_us": [...], "cpu_us": float}``: the duration of each request, what its thread computed for
it, and the CPU time of the whole process for one request, storing its records included.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

BARE, OTEL, ON_TOP, LEAN, ANCESTOR = VARIANTS = ("bare", "otel", "otel+audit", "audit", "drf-audit-trail")
#: As "audit", and spans go to the collector that ``BENCHMARK_COLLECTOR`` names; only `benchmarks.forwarding` has these.
FORWARDED, DURABLE = FORWARDING = ("audit+otlp", "audit+otlp durable")
AUDITED = (ON_TOP, LEAN, *FORWARDING)
SECONDS_TO_STORE = 30.0


def configure(variant: str) -> None:
    """Make the shop's settings those of the variant, before Django reads them."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    # In place of this folder, whose requests.py is not what OpenTelemetry's exporter imports by that name.
    sys.path[0] = str(Path(__file__).resolve().parent.parent / "demo")
    import shop.settings as settings  # type: ignore[import-not-found]  # it is on the path now

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.ROOT_URLCONF = "shop.plain_urls"
    settings.LOGGING_CONFIG = None
    settings.ALLOWED_HOSTS = ["testserver"]
    for database in settings.DATABASES.values():
        database["CONN_MAX_AGE"] = None  # as in production: opening SQLite anew costs more than all the rest
    if "BENCHMARK_COLLECTOR" in os.environ:
        settings.OTEL_AUDIT["DRAIN"] = "external"  # what works beside a request would be measured with it
    if variant in FORWARDING:
        settings.OTEL_AUDIT["OTLP"] = {"endpoint": os.environ["BENCHMARK_COLLECTOR"], "durable": variant == DURABLE}
    if variant not in AUDITED:
        settings.INSTALLED_APPS.remove("otel_audit")
        settings.MIDDLEWARE.remove("otel_audit.middleware.AuditMiddleware")
        settings.DATABASE_ROUTERS = []
    if variant == ANCESTOR:
        settings.INSTALLED_APPS.append("drf_audit_trail")
        settings.MIDDLEWARE.append("drf_audit_trail.middleware.RequestLoginAuditEventMiddleware")
        settings.DATABASE_ROUTERS = ["drf_audit_trail.database_router.DRFAuditTrail"]
        settings.DRF_AUDIT_TRAIL_DATABASE_ALIAS = "audit"
    if variant in (OTEL, ON_TOP):
        instrument()


def instrument() -> None:
    """Do what a site does that has OpenTelemetry's Django instrumentation: an SDK, a batch processor, an exporter."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class NoExporter(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(NoExporter()))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument()


class Shop:
    """The shop's WSGI application, a user, and a few requests."""

    def __init__(self, variant: str) -> None:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        call_command("migrate", database="audit", verbosity=0)
        from django.contrib.auth.models import User
        from django.core.handlers.wsgi import WSGIHandler
        from rest_framework_simplejwt.tokens import AccessToken

        from shop.models import Product  # type: ignore[import-not-found]  # on the path

        user = User.objects.create_user("anna", password="anna")
        Product.objects.create(sku="tea", name="Tea", price="4.50", stock=3)
        token = AccessToken.for_user(user)
        token.set_exp(lifetime=__import__("datetime").timedelta(hours=2))
        self.variant = variant
        self.token = str(token)
        self.application = WSGIHandler()
        self.numbers = count()

    def run(self, scenario: str, requests: int) -> dict[str, Any]:
        """Send ``requests`` requests of one scenario."""
        environs = [self.environ(scenario) for _ in range(requests)]
        walls, threads = [], []
        cpu = time.process_time()
        for environ in environs:
            began, thread = time.perf_counter(), time.thread_time()
            response = self.application(environ, _start_response)
            for _ in response:
                pass
            response.close()
            threads.append((time.thread_time() - thread) * 1e6)
            walls.append((time.perf_counter() - began) * 1e6)
        self.store()
        cpu = (time.process_time() - cpu) * 1e6 / requests
        return {"wall_us": walls, "thread_us": threads, "cpu_us": cpu}

    def store(self) -> None:
        """Wait until the records of this variant are in the audit database."""
        if self.variant in AUDITED:
            import otel_audit

            left = otel_audit.flush(SECONDS_TO_STORE)
            if left:
                raise RuntimeError(f"{left} records were not stored within {SECONDS_TO_STORE} s")

    def environ(self, scenario: str) -> dict[str, Any]:
        """Return the WSGI environ of one request."""
        body = b""
        if scenario == "get":
            method, path = "GET", "/api/products/1/"
        elif scenario == "post":
            method, path = "POST", "/api/products/"
            product = {"sku": f"sku-{next(self.numbers)}", "name": "A product", "price": "12.50", "stock": 5}
            body = json.dumps(product).encode()
        else:
            method, path = "POST", "/api/token/"
            body = b'{"username": "anna", "password": "anna"}'
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "page=1",
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": "application/json" if body else "",
            "CONTENT_LENGTH": str(len(body)) if body else "",
            "HTTP_HOST": "testserver",
            "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "HTTP_ACCEPT": "application/json",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.url_scheme": "http",
        }
        if scenario != "sign-in":
            environ["HTTP_AUTHORIZATION"] = f"Bearer {self.token}"
        return environ


def _start_response(status: str, headers: Any, exc_info: Any = None) -> None:
    if not status.startswith("2"):
        raise RuntimeError(f"the shop answered {status}")


def main() -> None:
    """Serve commands until standard input ends."""
    variant = sys.argv[1]
    configure(variant)
    shop = Shop(variant)
    print("ready", flush=True)
    for line in sys.stdin:
        scenario, requests = line.split()
        print(json.dumps(shop.run(scenario, int(requests))), flush=True)


if __name__ == "__main__":
    main()
