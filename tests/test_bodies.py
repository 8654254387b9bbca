"""What is seen of bodies, with Django's own requests, responses and handlers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from typing import IO, Any
from wsgiref.handlers import SimpleHandler

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.http import FileResponse, HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.http.request import RawPostDataException, UnreadablePostError
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.urls import path
from hypothesis import given
from hypothesis import strategies as st

from otel_audit.bodies import Captured, TeeStream, watch_stream

LIMIT = 1000


def captured(data: bytes, limit: int = LIMIT) -> Captured:
    """Return what reading all of ``data`` is to give."""
    return Captured(data[:limit], len(data), hashlib.sha256(data).hexdigest(), len(data) > limit)


def tee(request: HttpRequest, limit: int = LIMIT) -> TeeStream:
    """Put a tee under a request, as the guard does."""
    stream = TeeStream(request._stream, limit)  # type: ignore[attr-defined]  # Django's own place for it
    request._stream = stream  # type: ignore[attr-defined]
    return stream


def wsgi(data: bytes, content_type: str) -> HttpRequest:
    """A request as `WSGIHandler` makes it."""
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(data)),
        "wsgi.input": io.BytesIO(data + b"beyond the request"),
        "wsgi.url_scheme": "http",
    }
    return WSGIRequest(environ)


def asgi(data: bytes, content_type: str) -> HttpRequest:
    """A request as `ASGIHandler` makes it."""
    body = tempfile.SpooledTemporaryFile(max_size=100)  # noqa: SIM115  # closed with the request
    body.write(data)
    body.seek(0)
    _opened.append(body)
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(data)).encode())]
    return ASGIRequest({"type": "http", "method": "POST", "path": "/", "headers": headers}, body)


def factory(data: bytes, content_type: str) -> HttpRequest:
    """A request as Django's test client makes it."""
    return RequestFactory().generic("POST", "/", data, content_type=content_type)


def async_factory(data: bytes, content_type: str) -> HttpRequest:
    """A request as Django's asynchronous test client makes it."""
    return AsyncRequestFactory().generic("POST", "/", data, content_type=content_type)


_opened: list[IO[bytes]] = []
MakeRequest = Callable[[bytes, str], HttpRequest]


@pytest.fixture(params=[wsgi, asgi, factory, async_factory])
def make_request(request: pytest.FixtureRequest) -> Iterator[MakeRequest]:
    """Makes requests as each server does, and closes them."""
    made: list[HttpRequest] = []

    def make(data: bytes, content_type: str) -> HttpRequest:
        made.append(request.param(data, content_type))
        return made[-1]

    yield make
    for each in made:
        each.close()


JSON = json.dumps({"name": "ä" * 700}).encode()


def test_body_is_captured_as_the_view_reads_it(make_request: MakeRequest) -> None:
    request = make_request(JSON, "application/json")
    stream = tee(request)

    assert request.body == JSON

    assert stream.captured() == captured(JSON)
    assert request.body == JSON
    assert stream.captured().size == len(JSON)


def test_form_is_captured(make_request: MakeRequest) -> None:
    request = make_request(b"a=1&b=%C3%A4", "application/x-www-form-urlencoded")
    stream = tee(request)

    assert request.POST.dict() == {"a": "1", "b": "ä"}

    assert stream.captured() == captured(b"a=1&b=%C3%A4")


def test_upload_is_captured_while_django_parses_it(make_request: MakeRequest) -> None:
    sample = RequestFactory().post("/", {"a": "1", "f": SimpleUploadedFile("f.bin", b"\0\xff" * 50_000)})
    raw, content_type = sample.body, sample.META["CONTENT_TYPE"]
    request = make_request(raw, content_type)
    stream = tee(request)

    assert request.POST["a"] == "1"
    assert request.FILES["f"].read() == b"\0\xff" * 50_000

    assert stream.captured() == captured(raw)
    with pytest.raises(RawPostDataException):
        _ = request.body


def test_what_the_view_never_reads_is_not_read(make_request: MakeRequest) -> None:
    request = make_request(JSON, "application/json")
    stream = tee(request)

    assert stream.captured() == captured(b"")
    assert request.read(10) == JSON[:10]
    assert stream.captured() == captured(JSON[:10])
    assert request.read() == JSON[10:]


def test_body_that_the_view_streams_is_captured(make_request: MakeRequest) -> None:
    data = b"one\ntwo\n" + b"x" * 2000
    request = make_request(data, "text/csv")
    stream = tee(request)

    lines = list(request)

    assert lines == [b"one\n", b"two\n", b"x" * 2000]
    assert stream.captured() == captured(data)


def test_body_read_in_every_other_way_is_captured(make_request: MakeRequest) -> None:
    data = b"one\ntwo\nthree\nfour"
    request = make_request(data, "text/plain")
    stream = tee(request)

    assert request.readline() == b"one\n"
    assert next(stream) == b"two\n"
    assert request.readlines() == [b"three\n", b"four"]
    assert list(stream) == []

    assert stream.captured() == captured(data)


def test_rest_of_the_stream_is_as_it_was() -> None:
    inner = io.BytesIO(b"0123456789")
    stream = TeeStream(inner, 4)

    assert stream.seekable()
    assert stream.read1(3) == b"012"
    assert stream.readinto(buffer := bytearray(2)) == 2
    assert buffer == b"34"
    assert stream.readlines(1) == [b"56789"]
    assert stream.tell() == 10
    assert stream.captured() == captured(b"0123456789", 4)
    stream.close()
    assert inner.closed
    with pytest.raises(AttributeError):
        _ = stream.nothing


def test_nothing_to_read_into_stays_nothing() -> None:
    class NotReady:
        def readinto(self, buffer: Any) -> None:
            return None

    stream = TeeStream(NotReady(), 4)

    assert stream.readinto(bytearray(2)) is None
    assert stream.captured() == captured(b"", 4)


def test_bytes_that_are_read_again_count_once() -> None:
    stream = TeeStream(io.BytesIO(b"0123456789"), 100)

    assert stream.seek(0, io.SEEK_END) == 10
    assert stream.seek(0) == 0
    assert stream.read(4) == b"0123"
    stream.seek(2)
    assert stream.read() == b"23456789"

    assert stream.captured() == captured(b"0123456789")


def test_error_while_reading_passes_through() -> None:
    class Broken:
        def read(self, *args: Any) -> bytes:
            raise OSError("the client went away")

    request = wsgi(JSON, "application/json")
    request._stream = Broken()  # type: ignore[attr-defined]
    stream = tee(request)

    with pytest.raises(UnreadablePostError, match="the client went away"):
        request.read()
    assert stream.captured() == captured(b"")


@given(
    st.binary(max_size=300),
    st.lists(st.tuples(st.sampled_from(["read", "readline"]), st.integers(-1, 40)), max_size=20),
)
def test_tee_gives_what_the_stream_gives(data: bytes, calls: list[tuple[str, int]]) -> None:
    plain, stream = io.BytesIO(data), TeeStream(io.BytesIO(data), 50)

    for name, size in calls:
        assert getattr(stream, name)(size) == getattr(plain, name)(size)

    assert stream.captured() == captured(data[: plain.tell()], 50)


# ── streaming responses ─────────────────────────────────────────────────────────────────────────

closed: list[tuple[int, BaseException | None]] = []


@pytest.fixture(autouse=True)
def _own_urls() -> Iterator[None]:
    closed.clear()
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)  # there is no database here
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[f"{__name__}.watching"], ALLOWED_HOSTS=["*"]):
        yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)
    for file in _opened:
        file.close()


def watching(get_response: Any) -> Any:
    """Middleware that watches every stream, sync and async."""

    def watch(response: HttpResponseBase) -> HttpResponseBase:
        before = (response.status_code, dict(response.headers), getattr(response, "file_to_stream", None))
        watch_stream(response, lambda size, error: closed.append((size, error)))
        assert (response.status_code, dict(response.headers), getattr(response, "file_to_stream", None)) == before
        return response

    if asyncio.iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            return watch(await get_response(request))

        from asgiref.sync import markcoroutinefunction

        return markcoroutinefunction(middleware)
    return lambda request: watch(get_response(request))


watching.sync_capable = watching.async_capable = True  # type: ignore[attr-defined]


def _parts() -> Iterator[Any]:
    yield b"one"
    yield "zweü"
    yield memoryview(b"three")


async def _async_parts() -> AsyncIterator[Any]:
    for part in _parts():
        await asyncio.sleep(0)
        yield part


def _breaks() -> Iterator[bytes]:
    yield b"one"
    raise ValueError("in mid-stream")


async def _async_breaks() -> AsyncIterator[bytes]:
    yield b"one"
    raise ValueError("in mid-stream")


async def _endless() -> AsyncIterator[bytes]:
    yield b"one"
    await asyncio.sleep(60)


urlpatterns = [
    path("sync", lambda request: StreamingHttpResponse(_parts())),
    path("async", lambda request: StreamingHttpResponse(_async_parts())),
    path("breaks", lambda request: StreamingHttpResponse(_breaks())),
    path("async-breaks", lambda request: StreamingHttpResponse(_async_breaks())),
    path("endless", lambda request: StreamingHttpResponse(_endless())),
    path("file", lambda request: FileResponse(io.BytesIO(b"x" * 10_000), as_attachment=True, filename="x.bin")),
    path("empty", lambda request: StreamingHttpResponse([])),
]
WHOLE = b"one" + "zweü".encode() + b"three"


class _Server(SimpleHandler):
    """wsgiref's server for one request, with or without its ``wsgi.file_wrapper``."""

    http_version = "1.1"

    def log_exception(self, exc_info: Any) -> None:
        raise exc_info[1]


def serve_wsgi(url: str, *, file_wrapper: bool = True) -> bytes:
    """Answer one request and return its body."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": url,
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    output = io.BytesIO()
    server = _Server(io.BytesIO(), output, io.StringIO(), environ, multithread=False)
    if not file_wrapper:
        server.wsgi_file_wrapper = None  # type: ignore[assignment]  # wsgiref's way to say that there is none
    server.run(WSGIHandler())
    return output.getvalue().partition(b"\r\n\r\n")[2]


class _Handler(ASGIHandler):
    """Django's handler, whose body file is closed even where Django 5.2 leaves it open."""

    async def read_body(self, receive: Any) -> Any:
        _opened.append(await super().read_body(receive))  # type: ignore[misc]  # the stubs know no types here
        return _opened[-1]


async def serve_asgi(url: str, *, disconnect: bool = False, broken: bool = False) -> bytes:
    """Answer one request and return its body.

    With ``disconnect`` the client leaves after the first part, with ``broken`` sending it fails.
    """
    sent: list[dict[str, Any]] = []
    first = asyncio.Event()
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await (first.wait() if disconnect else asyncio.sleep(60))
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message.get("body"):
            first.set()
            if broken:
                raise OSError("gone")

    scope = {"type": "http", "method": "GET", "path": url, "headers": [], "query_string": b""}
    await _Handler()(scope, receive, send)  # type: ignore[arg-type]
    return b"".join(message.get("body", b"") for message in sent)


def test_stream_is_counted_under_wsgi() -> None:
    assert serve_wsgi("/sync") == WHOLE
    assert closed == [(len(WHOLE), None)]


async def test_stream_is_counted_under_asgi() -> None:
    assert await serve_asgi("/async") == WHOLE
    assert closed == [(len(WHOLE), None)]


async def test_sync_stream_is_counted_under_asgi() -> None:
    with pytest.warns(Warning, match="must consume synchronous iterators"):
        assert await serve_asgi("/sync") == WHOLE
    assert closed == [(len(WHOLE), None)]


def test_async_stream_is_counted_under_wsgi() -> None:
    with pytest.warns(Warning, match="must consume asynchronous iterators"):
        assert serve_wsgi("/async") == WHOLE
    assert closed == [(len(WHOLE), None)]


def test_empty_stream_is_complete() -> None:
    assert serve_wsgi("/empty") == b""
    assert closed == [(0, None)]


@pytest.mark.parametrize("file_wrapper", [True, False])
def test_file_has_its_size_whoever_sends_it(file_wrapper: bool) -> None:
    assert serve_wsgi("/file", file_wrapper=file_wrapper) == b"x" * 10_000
    assert closed == [(10_000, None)]


async def test_file_is_counted_under_asgi() -> None:
    with pytest.warns(Warning, match="must consume synchronous iterators"):
        assert await serve_asgi("/file") == b"x" * 10_000
    assert closed == [(10_000, None)]


def test_error_in_mid_stream_is_reported_under_wsgi() -> None:
    with pytest.raises(ValueError, match="in mid-stream"):
        serve_wsgi("/breaks")

    [(size, error)] = closed
    assert size == 3
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("url", ["/async-breaks", "/breaks"])
async def test_error_in_mid_stream_is_reported_under_asgi(url: str) -> None:
    warning = pytest.warns(Warning, match="consume") if url == "/breaks" else contextlib.nullcontext()

    with pytest.raises(ValueError, match="in mid-stream"), warning:
        await serve_asgi(url)

    [(size, error)] = closed
    assert size == 3
    assert isinstance(error, ValueError)


async def test_client_that_is_gone_when_the_server_sends_is_reported_under_asgi() -> None:
    with pytest.raises(OSError, match="gone"):
        await asyncio.create_task(serve_asgi("/async", broken=True))
    await asyncio.sleep(0.01)

    [(size, error)] = closed
    assert size == 3
    assert isinstance(error, ConnectionAbortedError)


async def test_server_that_shuts_down_is_reported_under_asgi() -> None:
    own = asyncio.current_task()
    serving = asyncio.create_task(serve_asgi("/endless"))
    await asyncio.sleep(0.1)
    assert not serving.done()
    tasks = [task for task in asyncio.all_tasks() if task is not own]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.01)

    [(size, error)] = closed
    assert size == 3
    assert isinstance(error, asyncio.CancelledError)


async def test_client_that_leaves_is_reported_under_asgi() -> None:
    assert await serve_asgi("/endless", disconnect=True) == b"one"

    [(size, error)] = closed
    assert size == 3
    assert isinstance(error, asyncio.CancelledError)


def test_server_that_stops_early_is_reported() -> None:
    response = StreamingHttpResponse(_parts())
    watch_stream(response, lambda size, error: closed.append((size, error)))

    next(iter(response))
    response.close()

    [(size, error)] = closed
    assert size == 3
    assert isinstance(error, ConnectionAbortedError)


def test_server_that_stops_at_the_declared_length_is_done() -> None:
    response = StreamingHttpResponse(iter([b"abc", b""]), headers={"Content-Length": "3"})
    watch_stream(response, lambda size, error: closed.append((size, error)))

    next(iter(response))
    response.close()

    assert closed == [(3, None)]


@pytest.mark.parametrize("length", [None, "", "abc", "-1", "9" * 40])
def test_stream_that_nobody_asked_for_has_no_size(length: str | None) -> None:
    response = StreamingHttpResponse(_parts())
    if length is not None:
        response.headers["Content-Length"] = length
    watch_stream(response, lambda size, error: closed.append((size, error)))

    response.close()

    assert closed == [(0, None)]


def test_file_that_nobody_asked_for_has_no_size() -> None:
    response = FileResponse(io.BytesIO(b"x" * 10))
    watch_stream(response, lambda size, error: closed.append((size, error)))

    response.close()

    assert closed == [(0, None)]


def test_close_is_told_once() -> None:
    response = StreamingHttpResponse(_parts())
    watch_stream(response, lambda size, error: closed.append((size, error)))
    closer = response._resource_closers[-1]  # type: ignore[attr-defined]  # Django's own place for it

    closer()
    response.close()
    response.close()

    assert len(closed) == 1


@pytest.mark.parametrize("parts", [_parts, _async_parts])
async def test_parts_are_made_inside_the_context_given(parts: Callable[[], Any]) -> None:
    entered: list[str] = []

    @contextlib.contextmanager
    def inside() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    response = StreamingHttpResponse(parts())
    watch_stream(response, lambda size, error: None, inside)
    if response.is_async:
        async for _ in response:
            pass
    else:
        list(response)

    assert entered[:6] == ["in", "out"] * 3


def test_generator_behind_a_watched_stream_is_closed() -> None:
    ended: list[str] = []

    def parts() -> Iterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            ended.append("closed")

    response = StreamingHttpResponse(parts())
    watch_stream(response, lambda size, error: ended.append("told"))

    next(iter(response))
    response.close()

    assert ended == ["closed", "told"]
