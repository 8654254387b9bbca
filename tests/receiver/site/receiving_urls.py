"""The receiver, mounted, a view whose step belongs to whatever process goes on in it, and one that begins a process."""

from urllib.request import ProxyHandler, Request, build_opener

from django.http import HttpRequest, HttpResponse
from django.urls import path
from opentelemetry.propagate import inject

from otel_audit import process, step
from otel_audit.receiver import receive_traces


def ship(request: HttpRequest) -> HttpResponse:
    """Ship what was ordered."""
    with step("Ship") as s:
        s.register(True, "shipped")
    return HttpResponse(status=204)


def order(request: HttpRequest) -> HttpResponse:
    """Take an order and have it shipped there, by a call that knows OpenTelemetry alone."""
    headers: dict[str, str] = {}
    with process("Order"), step("Hand over", expect=0):
        inject(headers)
        with build_opener(ProxyHandler({})).open(Request(request.GET["ship"], headers=headers), timeout=30) as answer:
            return HttpResponse(status=answer.status)


urlpatterns = [path("v1/traces", receive_traces), path("ship/", ship), path("order/", order)]
