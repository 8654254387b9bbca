"""Views that write secrets wherever a view, a library or plain OpenTelemetry code can."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.functional import SimpleLazyObject
from django.views.decorators.csrf import csrf_exempt
from opentelemetry import trace
from opentelemetry.trace import Link, Status, StatusCode
from rest_framework_simplejwt.views import TokenObtainPairView

import otel_audit
from otel_audit.models import ProcessAuditEvent, RegistrationAuditEvent, StepAuditEvent
from otel_audit.process_audit import ProcessAudit

S = settings.CANARIES


def annotate(request: HttpRequest) -> HttpResponse:
    """Write beside the request."""
    otel_audit.annotate(request, password=S["annotate"], data=[{"deep": {"apiKey": S["annotate_nested"]}}])
    otel_audit.annotate(request, text=f"Authorization: Basic {S['annotate_text']}")
    request.META["drf_request_audit_event"]["extra_informations"] = {"secret": S["meta"]}
    request.META["drf_login_audit_event"].update(status="Sign in", token=S["meta_login"])
    return HttpResponse("annotated")


def helpers(request: HttpRequest) -> HttpResponse:
    """Write through our helpers."""
    with (
        otel_audit.actor("service", f"token={S['actor_name']}"),
        otel_audit.process(
            f"Import token={S['process_name']}",
            f"with password={S['process_description']}",
            password=S["process_extra"],
        ) as process,
        process.step(
            f"Step secret={S['step_name']}", description=f"token: {S['step_description']}", token=S["step_extra"]
        ) as step,
    ):
        step.set_extra(nested={"client-secret": S["set_extra"]})
        step.register(
            True,
            f"key api_key={S['registration_name']}",
            f"password={S['registration_description']}",
            cookie=S["registration_extra"],
        )
    return HttpResponse("helped")


class Order(ProcessAudit):
    """The ancestor's class."""

    def create_process(self) -> Any:
        """Create a process."""
        self.process = self.save_model(
            ProcessAuditEvent(
                name="Order",
                description=f"password={S['class_description']}",
                extra_informations={"password": S["class_extra"]},
            )
        )
        return self.process

    def create_steps(self, process: Any) -> None:
        """Create a step with a registration."""
        step = self.save_model(StepAuditEvent(name="Pay", order=1, process=process))
        self.save_model(
            RegistrationAuditEvent(step=step, success=True, name="paid", extra_informations={"token": S["class_extra"]})
        )


def with_class(request: HttpRequest) -> HttpResponse:
    """Write through the ancestor's class."""
    order = Order(request)
    order.create_steps(order.create_process())
    return HttpResponse("ordered")


def plain(request: HttpRequest) -> HttpResponse:
    """Write with plain OpenTelemetry code."""
    tracer = trace.get_tracer("site")
    link = Link(trace.get_current_span().get_span_context(), {"password": S["link_attribute"]})
    described = {"audit.kind": "process", "audit.process.description": f"token={S['plain_description']}"}
    with tracer.start_as_current_span("Plain", attributes=described, links=[link]) as process:
        process.set_attribute("db.password", S["span_attribute"])
        process.set_attribute("values", ["x", f"Bearer {S['span_bearer']}", f"token={S['span_list']}"])
        process.set_attribute(f"password={S['span_map_key']}", "as a key")
        process.set_attribute("pin", int(S["span_pin"]))
        process.set_attribute("number", int(S["span_card"]))
        process.add_event("site.event", {"token": S["span_event"], "text": f"password={S['event_text']}"})
        process.add_event(f"token={S['event_name']}")
        process.record_exception(ValueError(f"password={S['recorded_exception']}"))
        process.set_status(Status(StatusCode.ERROR, f"password={S['span_status']}"))
        process.update_name(f"Plain token={S['span_name']}")
        with tracer.start_as_current_span("Step", attributes={"audit.kind": "step"}) as step:
            step.add_event(
                "audit.registration",
                {
                    "audit.registration.name": f"secret={S['plain_registration_text']}",
                    "audit.registration.success": True,
                    "password": S["plain_registration"],
                },
            )
            step.add_event("audit.login", {"audit.action": "LOGIN", "password": S["plain_login"]})
    return HttpResponse("plain")


def request_span(request: HttpRequest) -> HttpResponse:
    """Write on the request's own span."""
    span = trace.get_current_span()
    span.set_attribute("site.token", S["request_span_attribute"])
    span.set_attribute("url.full", f"https://x:{S['request_span_attribute']}@h/?token={S['request_span_attribute']}")
    return HttpResponse("written")


def answer(request: HttpRequest, kind: str) -> HttpResponse:
    """Give secrets away."""
    response: HttpResponse
    if kind == "json":
        response = JsonResponse(
            {"access": S["response_jwt"], "refresh": S["response_json"], "a": [{"sessionKey": S["response_nested"]}]}
        )
    elif kind == "html":
        response = HttpResponse(f"<form><input type='hidden' value='{S['response_html']}' name='csrf_token'></form>")
    else:
        response = HttpResponse(f"your password: {S['response_text']}\n", content_type="text/plain")
    response.set_cookie("session", S["set_cookie"])
    return response


def crash(request: HttpRequest, how: str) -> HttpResponse:
    """Fail with secrets at hand."""
    if how == "message":
        raise ValueError(f"cannot sign in with password={S['exception_message']}")
    if how == "recorded":
        error = ValueError(f"headers: {{'Authorization': 'Basic {S['exception_repr']}'}}")
        error.add_note(f"token={S['exception_note']}")
        raise error
    if how == "cause":
        try:
            raise LookupError(f"no secret={S['exception_cause']}")
        except LookupError as cause:
            raise RuntimeError({"password": S["exception_key"]}) from cause
    password = S["source_local"]
    raise ValueError(f"{password=}, {locals()!r}")


def lazy_user(request: HttpRequest) -> HttpResponse:
    """Leave a user who cannot be looked at."""

    def load() -> Any:
        raise RuntimeError(f"database refuses password={S['lazy_user']}")

    request.user = SimpleLazyObject(load)  # type: ignore[assignment]
    return HttpResponse("left")


def sign_in(request: HttpRequest) -> HttpResponse:
    """Try to sign somebody in."""
    found = authenticate(request, username=request.POST["username"], password=request.POST["password"])
    return HttpResponse(status=200 if found else 401)


urlpatterns = [
    path("leak/annotate/", csrf_exempt(annotate)),
    path("leak/helpers/", csrf_exempt(helpers)),
    path("leak/class/", csrf_exempt(with_class)),
    path("leak/plain/", csrf_exempt(plain)),
    path("leak/request-span/", csrf_exempt(request_span)),
    path("leak/answer/<kind>/", csrf_exempt(answer)),
    path("leak/crash/<how>/", crash),
    path("leak/lazy-user/", lazy_user),
    path("sign-in/", csrf_exempt(sign_in)),
    path("token/", TokenObtainPairView.as_view()),
]
