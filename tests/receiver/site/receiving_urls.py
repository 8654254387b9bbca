"""The receiver, mounted, and a view whose step belongs to whatever process goes on in it."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from otel_audit import step
from otel_audit.receiver import receive_traces


def ship(request: HttpRequest) -> HttpResponse:
    """Ship what was ordered."""
    with step("Ship") as s:
        s.register(True, "shipped")
    return HttpResponse(status=204)


urlpatterns = [path("v1/traces", receive_traces), path("ship/", ship)]
