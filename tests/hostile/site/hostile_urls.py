"""Views that do to a request whatever a view may do. What they use of ours is there only where we are."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.models import User
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from opentelemetry import trace
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

AUDITED = apps.is_installed("otel_audit")


def health(request: HttpRequest) -> HttpResponse:
    """Say that the server is there."""
    return HttpResponse("ok")


def flush(request: HttpRequest) -> HttpResponse:
    """Bring every record so far into the audit database; say how many are left."""
    import otel_audit

    return HttpResponse(str(otel_audit.flush(15)))


def echo(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    """Tell what arrived."""
    return JsonResponse(
        {"method": request.method, "path": request.path, "query": len(request.GET), "body": len(request.body)}
    )


def chunks(request: HttpRequest) -> HttpResponse:
    """Read the body piece by piece."""
    size = 0
    while part := request.read(10_000):
        size += len(part)
    return HttpResponse(str(size))


def form(request: HttpRequest) -> HttpResponse:
    """Read a form."""
    return JsonResponse({"fields": len(request.POST), "files": [file.size for file in request.FILES.values()]})


def deaf(request: HttpRequest) -> HttpResponse:
    """Read nothing."""
    return HttpResponse("heard nothing")


class Data(APIView):
    """Reads a body through REST framework, and writes it wherever a view can write."""

    def post(self, request: Request) -> Response:
        """Take the data over into the audit trail."""
        data: Any = request.data
        if AUDITED:
            import otel_audit

            otel_audit.annotate(request, data=data)
            text = str(data)
            with (
                otel_audit.process(text[:400], description=text, data=data) as process,
                process.step(text[:400], description=text, data=data) as step,
            ):
                step.register(True, text[:400], text, data=data)
        span = trace.get_current_span()
        span.set_attribute("site.data", str(data)[:1000])
        span.set_attribute(str(data)[:100], "as a name")
        return Response({"kind": type(data).__name__})


class Who(APIView):
    """Says who asks."""

    def get(self, request: Request) -> Response:
        """Tell the key."""
        return Response({"key": str(request.user.pk)})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer in parts."""
    return StreamingHttpResponse(iter([b"one", b"two"]))


def torn(request: HttpRequest) -> StreamingHttpResponse:
    """Answer in parts, and fail after the first."""

    def parts() -> Iterator[bytes]:
        yield b"one"
        raise RuntimeError("torn in the middle")

    return StreamingHttpResponse(parts())


def endless(request: HttpRequest) -> StreamingHttpResponse:
    """Answer for as long as somebody listens."""

    def parts() -> Iterator[bytes]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            yield b"x" * 60_000

    return StreamingHttpResponse(parts())


async def async_endless(request: HttpRequest) -> StreamingHttpResponse:
    """Do the same in an event loop."""
    import asyncio

    async def parts() -> Any:
        for _ in range(20_000):
            await asyncio.sleep(0.001)
            yield b"x" * 60_000

    return StreamingHttpResponse(parts())


def spoil(request: HttpRequest, what: str) -> HttpResponse:
    """Break the request object."""
    if what == "meta":
        request.META = None  # type: ignore[assignment]
    elif what == "cleared":
        request.META.clear()
    elif what == "traceparent":
        request.META.update(HTTP_TRACEPARENT=object(), HTTP_TRACESTATE=3, QUERY_STRING=None, CONTENT_LENGTH=7)
    elif what == "method":
        request.method, request.path, request.path_info = None, "/elsewhere/", "/elsewhere/"
    elif what == "user":
        request.user = "mallory"  # type: ignore[assignment]
    elif what == "match":
        request.resolver_match = None  # type: ignore[assignment]
    elif what == "dict":
        for name in ("user", "session", "resolver_match", "_stream"):
            request.__dict__.pop(name, None)
    return HttpResponse("spoilt")


def flood(request: HttpRequest) -> HttpResponse:
    """Drown the record."""
    for span in (trace.get_current_span(), trace.get_tracer("site").start_span("x", attributes={"audit.kind": "step"})):
        for number in range(2000):
            span.set_attribute(f"site.flood.{number}", number)
            span.add_event("site.flood", {"number": number})
        span.set_attribute("http.request.method", "FORGED")
        span.set_attribute("http.response.status_code", 418)
        span.set_attribute("url.path", "/forged/")
        span.set_attribute("audit.record.id", "00000000-0000-7000-8000-000000000000")
        span.update_name("forged " * 1000)
    return HttpResponse("flooded")


def end_span(request: HttpRequest) -> HttpResponse:
    """End the span that is not ours to end."""
    trace.get_current_span().end()
    return HttpResponse("ended")


class Silent(Exception):
    """Cannot be looked at."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


def crash(request: HttpRequest, how: str) -> HttpResponseBase:
    """Fail."""
    if how == "silent":
        raise Silent
    if how == "syntax":
        error = SyntaxError("no text")
        error.filename, error.lineno, error.offset, error.text = 1, "x", [], 5  # type: ignore[assignment]
        raise error
    if how == "deep":
        return crash(request, how)
    if how == "long":
        raise ValueError("long " * 400_000)
    if how == "echo":
        raise ValueError(request.body.decode("utf-8", "surrogateescape"))
    if how == "suspicious":
        raise SuspiciousOperation(request.GET["text"])
    if how == "cause":
        error = ValueError("a circle")
        error.__cause__ = error
        error.add_note(3)  # type: ignore[arg-type]
        raise error
    if how == "none":
        return None  # type: ignore[return-value]
    raise KeyError(how)


def deep(request: HttpRequest) -> HttpResponse:
    """Write something nested into the record."""
    data: Any = "bottom"
    for _ in range(200):
        data = {"d": [data]}
    if AUDITED:
        import otel_audit

        otel_audit.annotate(request, data=data, **{"k" * 5000: 1, "nul\0": "\0", "\ud800": "\udfff"})
    return HttpResponse("deep")


def amid(request: HttpRequest, how: str) -> HttpResponse:
    """Change who acts while the request is served."""
    if how == "deleted":
        request.user = User.objects.create_user("gone soon")
        request.user.delete()
    elif how == "logout":
        login(request, User.objects.get(username="ada"), "django.contrib.auth.backends.ModelBackend")
        logout(request)
    else:
        authenticate(request, username="bob", password="guess")
    return HttpResponse(how)


async def awaiting(request: HttpRequest) -> HttpResponse:
    """Take longer than the client waits."""
    import asyncio

    print("awaiting", file=sys.stderr, flush=True)  # the test waits for it
    await asyncio.sleep(20)
    return HttpResponse("too late")


def reset(request: HttpRequest, token: str, uidb64: str = "") -> HttpResponse:
    """Take a link with a secret in it."""
    return HttpResponse(json.dumps({"ok": True}))


urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/health/", health),
    path("flush/", flush),
    path("chunks/", csrf_exempt(chunks)),
    path("form/", csrf_exempt(form)),
    path("deaf/", csrf_exempt(deaf)),
    path("data/", Data.as_view()),
    path("who/", Who.as_view()),
    path("stream/", stream),
    path("torn/", torn),
    path("endless/", endless),
    path("async-endless/", async_endless),
    path("spoil/<what>/", spoil),
    path("flood/", flood),
    path("end-span/", end_span),
    path("crash/<how>/", csrf_exempt(crash)),
    path("deep/", deep),
    path("reset/<uidb64>/<token>/", reset),
    path("invitation/<token>/", reset),
    path("amid/<how>/", amid),
    path("awaiting/", awaiting),
    re_path(r"^echo/", csrf_exempt(echo)),
]
if AUDITED and hasattr(settings, "CANARIES"):
    urlpatterns.append(path("", include("leaks")))
