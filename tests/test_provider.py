"""Which provider the audit trail attaches to, when, and that the environment cannot switch it off."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_audit import process
from otel_audit.provider import private_tracer, site_tracer
from otel_audit.testing import capture
from otel_audit_exporters import AuditSpanProcessor

pytestmark = pytest.mark.usefixtures("fresh_provider", "fresh_pipeline")


def test_nothing_is_claimed_before_something_is_recorded() -> None:
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_first_record_claims_the_global_provider() -> None:
    with capture(), process("Bake"):
        pass

    assert isinstance(trace.get_tracer_provider(), TracerProvider)


def test_sites_provider_is_used_and_named_after(settings: Any) -> None:
    trace.set_tracer_provider(
        TracerProvider(resource=Resource.create({"service.name": "tea-shop"}), shutdown_on_exit=False)
    )

    with capture() as records, process("Bake"):
        pass

    assert records.processes[0].service_name == "tea-shop"


def test_service_name_of_the_settings_counts(settings: Any) -> None:
    settings.OTEL_AUDIT = {"DATABASE": "audit", "SERVICE_NAME": "till"}

    with capture() as records, process("Bake"):
        pass

    assert records.processes[0].service_name == "till"
    assert trace.get_tracer_provider().resource.attributes["service.name"] == "till"  # type: ignore[attr-defined]


def test_threads_that_come_at_once_attach_once() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    ready = threading.Barrier(8)

    def attach() -> None:
        ready.wait()
        site_tracer()
        private_tracer()

    with capture():
        threads = [threading.Thread(target=attach) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    processors = provider._active_span_processor._span_processors
    assert [type(one) for one in processors] == [AuditSpanProcessor]


def test_private_span_is_never_made_current() -> None:
    trace.set_tracer_provider(trace.NoOpTracerProvider())

    with capture() as records, process("Bake") as p, p.step("mix"):
        assert not trace.get_current_span().is_recording()

    assert records.steps[0].process_id == records.processes[0].id
    assert records.steps[0].parent_span_id == records.processes[0].span_id


SITE = """
import sys
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

def view(request):
    from otel_audit import process
    with process("Sell") as p, p.step("Pay") as s:
        s.register(True, "paid")
    return HttpResponse("sold")

urlpatterns = [path("shop/", view)]
settings.configure(
    SECRET_KEY="x" * 50,
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "otel_audit"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "otel_audit.middleware.AuditMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1] + "/db.sqlite3",
                           "OPTIONS": {"timeout": 20}}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    OTEL_AUDIT={"SPOOL_DIR": sys.argv[1] + "/spool"},
    USE_TZ=True,
)
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.test import Client
from otel_audit import flush
from otel_audit.models import ProcessAuditEvent, RegistrationAuditEvent, RequestAuditEvent, StepAuditEvent
if "instrument" in sys.argv:
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    DjangoInstrumentor().instrument()
    settings.MIDDLEWARE = [settings.MIDDLEWARE[1], settings.MIDDLEWARE[0], *settings.MIDDLEWARE[2:]]
client = Client()
for flag in ("00", "01"):
    client.get("/shop/", HTTP_TRACEPARENT="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-" + flag)
assert flush(10) == 0
for model in (RequestAuditEvent, ProcessAuditEvent, StepAuditEvent, RegistrationAuditEvent):
    print(model.objects.count(), end=" ")
print(*{row.trace_id for row in RequestAuditEvent.objects.all()})
assert {row.request_id for row in ProcessAuditEvent.objects.all()} == set(
    RequestAuditEvent.objects.values_list("id", flat=True))
"""


@pytest.mark.parametrize("arguments", [[], ["instrument"]], ids=["lean", "instrumented"])
@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_PYTHON_DJANGO_EXCLUDED_URLS": ".*", "OTEL_TRACES_SAMPLER": "parentbased_always_off"},
    ],
    ids=" ".join,
)
def test_environment_cannot_switch_the_audit_trail_off(
    tmp_path: Path, environment: dict[str, str], arguments: list[str]
) -> None:
    script = tmp_path / "site.py"
    script.write_text(SITE)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path), *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2 2 2 2 0af7651916cd43dd8448eb211c80319c"
