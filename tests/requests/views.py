"""Views that do everything a request's record has to cope with."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.views.decorators.csrf import csrf_exempt
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.propagate import inject
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from otel_audit import annotate, process, step

#: Set by `endless`.
entered = threading.Event()


class ShopError(Exception):
    """What the site's own code raises."""


def slow(request: HttpRequest) -> HttpResponse:
    """Take 20 ms."""
    time.sleep(0.02)
    return HttpResponse("at last")


def hello(request: HttpRequest) -> HttpResponse:
    """Ask for nothing."""
    return HttpResponse("hello")


async def ahello(request: HttpRequest) -> HttpResponse:
    """Ask for nothing, in an event loop."""
    await asyncio.sleep(0)
    return HttpResponse("hello")


def item(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a route parameter."""
    return HttpResponse(f"item {pk}")


def whoami(request: HttpRequest) -> HttpResponse:
    """Ask for the user."""
    return HttpResponse(request.user.get_username())


async def awhoami(request: HttpRequest) -> HttpResponse:
    """Ask for the user, in an event loop."""
    user = await request.auser()
    return HttpResponse(user.get_username())


@csrf_exempt
def echo(request: HttpRequest) -> HttpResponse:
    """Give the body back."""
    return HttpResponse(request.body, content_type=request.content_type or "text/plain")


@csrf_exempt
def form(request: HttpRequest) -> HttpResponse:
    """Read a form and its files."""
    files = {name: file.size for name, file in request.FILES.items()}
    return JsonResponse({"fields": dict(request.POST.items()), "files": files})


@csrf_exempt
def deaf(request: HttpRequest) -> HttpResponse:
    """Never read the body."""
    return HttpResponse("what?")


def protected(request: HttpRequest) -> HttpResponse:
    """Be protected against CSRF."""
    return HttpResponse("safe")


def crash(request: HttpRequest) -> HttpResponse:
    """Fail."""
    raise ShopError("the till is empty")


async def acrash(request: HttpRequest) -> HttpResponse:
    """Fail, in an event loop."""
    await asyncio.sleep(0)
    raise ShopError("the till is empty")


def missing(request: HttpRequest) -> HttpResponse:
    """Find nothing."""
    raise Http404("no such tea")


def denied(request: HttpRequest) -> HttpResponse:
    """Let nobody in."""
    raise PermissionDenied("staff only")


def broken(request: HttpRequest) -> HttpResponse:
    """Say 503 without an exception."""
    return HttpResponse("later", status=503)


class NotJSON:
    """A value that JSON does not know."""

    def __str__(self) -> str:
        return "<a value>"


def meta_extra(request: HttpRequest) -> HttpResponse:
    """Write extra data where the ancestor's documentation says."""
    request.META["drf_request_audit_event"]["extra_informations"] = {"order": 7, "tea": {"kind": "oolong"}}
    return HttpResponse("noted")


def meta_extra_crash(request: HttpRequest) -> HttpResponse:
    """Write extra data, then fail."""
    request.META["drf_request_audit_event"]["extra_informations"] = {"order": 7}
    raise ShopError("the till is empty")


def meta_extra_odd(request: HttpRequest) -> HttpResponse:
    """Write what is no JSON."""
    request.META["drf_request_audit_event"]["extra_informations"] = {"odd": NotJSON(), "path": Path("/tea"), "n": 1}
    return HttpResponse("noted")


def meta_extra_text(request: HttpRequest) -> HttpResponse:
    """Write what is no dict."""
    request.META["drf_request_audit_event"]["extra_informations"] = "tea"
    return HttpResponse("noted")


def meta_extra_empty(request: HttpRequest) -> HttpResponse:
    """Write nothing."""
    request.META["drf_request_audit_event"]["extra_informations"] = {}
    return HttpResponse("noted")


def meta_extra_none(request: HttpRequest) -> HttpResponse:
    """Put None in the place of the ancestor's dict."""
    request.META["drf_request_audit_event"] = None
    return HttpResponse("noted")


def meta_replaced(request: HttpRequest) -> HttpResponse:
    """Replace the whole dict of the ancestor."""
    request.META["drf_request_audit_event"] = {"extra_informations": {"order": 8}}
    return HttpResponse("noted")


def annotated(request: HttpRequest) -> HttpResponse:
    """Write extra data by our function."""
    annotate(request, order=7, odd=NotJSON())
    annotate(request, order=8)
    return HttpResponse("noted")


def annotated_crash(request: HttpRequest) -> HttpResponse:
    """Write extra data by our function, then fail."""
    annotate(request, order=7)
    raise ShopError("the till is empty")


def stream(request: HttpRequest) -> HttpResponseBase:
    """Stream three parts."""

    def parts() -> Iterator[bytes]:
        yield from (b"one ", b"two ", b"three")

    return StreamingHttpResponse(parts(), content_type="text/plain")


async def astream(request: HttpRequest) -> HttpResponseBase:
    """Stream three parts, in an event loop."""

    async def parts() -> AsyncIterator[bytes]:
        for part in (b"one ", b"two ", b"three"):
            await asyncio.sleep(0)
            yield part

    return StreamingHttpResponse(parts(), content_type="text/plain")


def stream_crash(request: HttpRequest) -> HttpResponseBase:
    """Fail in the middle of a stream."""

    def parts() -> Iterator[bytes]:
        yield b"one "
        raise ShopError("the teapot broke")

    return StreamingHttpResponse(parts(), content_type="text/plain")


async def astream_crash(request: HttpRequest) -> HttpResponseBase:
    """Fail in the middle of a stream, in an event loop."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        raise ShopError("the teapot broke")

    return StreamingHttpResponse(parts(), content_type="text/plain")


async def astream_endless(request: HttpRequest) -> HttpResponseBase:
    """Stream one part, then wait for ever."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        await asyncio.Event().wait()

    return StreamingHttpResponse(parts(), content_type="text/plain")


def stream_process(request: HttpRequest) -> HttpResponseBase:
    """Run a process while the stream is read."""

    def parts() -> Iterator[bytes]:
        with process("Export") as p, p.step("Write"):
            yield b"one "

    return StreamingHttpResponse(parts(), content_type="text/plain")


def file(request: HttpRequest) -> HttpResponseBase:
    """Send a file."""
    return FileResponse(io.BytesIO(b"x" * 100_000), filename="tea.bin", as_attachment=True)


async def endless(request: HttpRequest) -> HttpResponse:
    """Wait for ever; ``entered`` says that it does."""
    entered.set()
    await asyncio.Event().wait()
    return HttpResponse("never")


def spoil_meta(request: HttpRequest) -> HttpResponse:
    """Take the request's environ away."""
    request.META = {}
    return HttpResponse("spoilt")


def clear_meta(request: HttpRequest) -> HttpResponse:
    """Empty the request's environ."""
    request.META.clear()
    return HttpResponse("spoilt")


def spoil_method(request: HttpRequest) -> HttpResponse:
    """Change the method."""
    request.method = "DELETE"
    return HttpResponse("spoilt")


def spoil_path(request: HttpRequest) -> HttpResponse:
    """Change the path."""
    request.path = request.path_info = "/elsewhere/"
    return HttpResponse("spoilt")


def spoil_user(request: HttpRequest) -> HttpResponse:
    """Put something else in the user's place."""
    request.user = "somebody"  # type: ignore[assignment]
    return HttpResponse("spoilt")


def delete_user(request: HttpRequest) -> HttpResponse:
    """Take the user away."""
    del request.user
    return HttpResponse("spoilt")


def ask_then_spoil_user(request: HttpRequest) -> HttpResponse:
    """Ask for the user, then put something else in its place."""
    request.user.get_username()
    request.user = 42  # type: ignore[assignment]
    return HttpResponse("spoilt")


class BrokenUser:
    """A user object that raises whatever it is asked."""

    @property
    def is_authenticated(self) -> bool:
        """Fail."""
        raise RuntimeError("no")


def broken_user(request: HttpRequest) -> HttpResponse:
    """Act as a user object that raises."""
    request.user = BrokenUser()  # type: ignore[assignment]
    return HttpResponse("spoilt")


def login_event(request: HttpRequest) -> HttpResponse:
    """Record a sign-in by plain OpenTelemetry."""
    trace.get_current_span().add_event(
        "audit.login", {"audit.action": "LOGIN", "audit.outcome": "success", "audit.login.method": "kiosk"}
    )
    return HttpResponse("welcome")


class Hostile:
    """An object that raises whatever it is asked."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    __hash__ = None  # type: ignore[assignment]


class HostileError(Exception):
    """An exception without a message."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class HostileUser:
    """A user who will not say its name."""

    is_authenticated = True
    pk = 7

    def get_username(self) -> str:
        """Fail."""
        raise RuntimeError("no name")


def hostile_extra(request: HttpRequest) -> HttpResponse:
    """Annotate with an object that raises."""
    annotate(request, odd=Hostile(), fine=1)
    return HttpResponse("noted")


def hostile_meta_extra(request: HttpRequest) -> HttpResponse:
    """Put an object that raises in the place of the dict."""
    request.META["drf_request_audit_event"]["extra_informations"] = Hostile()
    return HttpResponse("noted")


def recursive_extra(request: HttpRequest) -> HttpResponse:
    """Annotate with a dict that contains itself."""
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    annotate(request, loop=loop)
    return HttpResponse("noted")


#: What ends a process, or a task, where it is not caught.
ENDS: dict[str, type[BaseException]] = {
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "close": GeneratorExit,
    "cancel": asyncio.CancelledError,
}


class Ending:
    """An object, user or message that wants the process to end when it is looked at."""

    def __init__(self, how: str) -> None:
        self.how = ENDS[how]

    @property
    def is_authenticated(self) -> bool:
        """End."""
        raise self.how

    def __str__(self) -> str:
        raise self.how

    __repr__ = __str__


class EndingError(Exception):
    """An exception whose message is such an object."""

    def __str__(self) -> str:
        return str(self.args[0])


def ending(request: HttpRequest, where: str, how: str) -> HttpResponse:
    """Leave such an object somewhere."""
    if where == "error":
        raise EndingError(Ending(how))
    if where == "user":
        request.user = Ending(how)  # type: ignore[assignment]
    else:
        annotate(request, odd=Ending(how), fine=1)
    return HttpResponse("noted")


def hostile_exception(request: HttpRequest) -> HttpResponse:
    """Fail with an exception that has no message."""
    raise HostileError


def hostile_name(request: HttpRequest) -> HttpResponse:
    """Act as a user who will not say its name."""
    request.user = HostileUser()  # type: ignore[assignment]
    return HttpResponse("acted")


def no_response(request: HttpRequest) -> HttpResponse:
    """Forget to answer."""
    return None  # type: ignore[return-value]


def leave_process(request: HttpRequest) -> HttpResponse:
    """Begin a process and forget it."""
    process("Left open").begin()
    return HttpResponse("left")


def run_process(request: HttpRequest) -> HttpResponse:
    """Run a process."""
    with process("Sell"):
        return HttpResponse("sold")


def leave_span(request: HttpRequest) -> HttpResponse:
    """Make a span current and forget it."""
    tracer = trace.get_tracer("shop")
    otel_context.attach(trace.set_span_in_context(tracer.start_span("left open")))
    return HttpResponse("left")


def one_step(request: HttpRequest) -> HttpResponse:
    """Make a step outside any process."""
    with step("Alone"):
        return HttpResponse("stepped")


def call(request: HttpRequest) -> HttpResponse:
    """Say what a call of another service would bring there."""
    headers: dict[str, str] = {}
    inject(headers)
    return JsonResponse(headers)


def call_in_process(request: HttpRequest) -> HttpResponse:
    """Say the same from a process of the view's own."""
    with process("Call"):
        return call(request)


def login_event_inside(request: HttpRequest) -> HttpResponse:
    """Record a sign-in by plain OpenTelemetry, on a span of the view's own."""
    with trace.get_tracer("shop").start_as_current_span("sign in"):
        return login_event(request)


class Who(APIView):
    """Ask DRF for the user."""

    def get(self, request: Request) -> Response:
        """Ask."""
        return Response({"user": request.user.get_username()})


class Deaf(APIView):
    """Authenticate, as every DRF view does, and ask for nothing."""

    def get(self, request: Request) -> Response:
        """Answer."""
        return Response({})


class Invalid(APIView):
    """Refuse the data."""

    authentication_classes: list[Any] = []

    def post(self, request: Request) -> Response:
        """Refuse."""
        annotate(request, order=7)
        raise ValidationError({"price": ["too low"]})


class Crash(APIView):
    """Fail."""

    authentication_classes: list[Any] = []

    def get(self, request: Request) -> Response:
        """Fail."""
        raise ShopError("the till is empty")


class Echo(APIView):
    """Give the data back."""

    authentication_classes: list[Any] = []

    def post(self, request: Request) -> Response:
        """Read and answer."""
        return Response({"got": request.data}, status=201)


class Annotated(APIView):
    """Write extra data through DRF's request."""

    authentication_classes: list[Any] = []

    def post(self, request: Request) -> Response:
        """Write."""
        annotate(request, order=7)
        request.META["drf_request_audit_event"]["extra_informations"] = {"tea": "oolong"}
        return Response({"got": request.data}, status=201)
