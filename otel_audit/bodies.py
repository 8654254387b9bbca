"""Watches bodies go by: what a view reads of a request, what a server takes from a streaming response.

Nothing here reads ahead or holds back: a request body that the view never read is not read by us, a response is
handed on part by part. The record gets what was seen.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

__all__ = ["Captured", "TeeStream", "watch_stream"]


@dataclass(frozen=True, slots=True)
class Captured:
    """What was seen of a body: its first bytes, and size and SHA-256 (hex) of all that was read."""

    data: bytes
    size: int
    sha256: str
    truncated: bool


class TeeStream:
    """Stands in for ``request._stream`` and notes what is read through it.

    Args:
        stream: the stream that the server made: Django's ``LimitedStream`` under WSGI, a temporary file under ASGI.
        limit: how many of the first bytes are kept.
    """

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._data = bytearray()
        self._hash = hashlib.sha256()
        self._size = 0
        self._position = 0
        #: Whether the view read to the end: then `size` is the body's, whatever the client declared.
        self.exhausted = False

    @property
    def size(self) -> int:
        """How many bytes were read so far."""
        return self._size

    def captured(self) -> Captured:
        """Return what was read so far."""
        return Captured(bytes(self._data), self._size, self._hash.hexdigest(), self._size > len(self._data))

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        """Read as the stream does."""
        data = self._note(self._stream.read(*args, **kwargs))
        asked = args[0] if args else None
        self.exhausted = asked is None or asked < 0 or len(data) < asked
        return data

    def read1(self, *args: Any, **kwargs: Any) -> bytes:
        """Read as the stream does, with one call of what lies underneath."""
        return self._note(self._stream.read1(*args, **kwargs))

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer as the stream does."""
        count: int = self._stream.readinto(buffer)
        self._note(bytes(memoryview(buffer).cast("B")[: count or 0]))
        return count

    def readline(self, *args: Any, **kwargs: Any) -> bytes:
        """Read one line as the stream does."""
        return self._note(self._stream.readline(*args, **kwargs))

    def readlines(self, *args: Any, **kwargs: Any) -> list[bytes]:
        """Read lines as the stream does."""
        lines: list[bytes] = self._stream.readlines(*args, **kwargs)
        for line in lines:
            self._note(line)
        return lines

    def seek(self, *args: Any, **kwargs: Any) -> int:
        """Move as the stream does: what is read a second time is not noted again."""
        self._position = self._stream.seek(*args, **kwargs)
        return self._position

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._note(next(self._stream))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _note(self, data: bytes) -> bytes:
        if not data:
            self.exhausted = True
        end = self._position + len(data)
        if end > self._size:
            fresh = data[max(0, self._size - self._position) :] if self._position < self._size else data
            self._hash.update(fresh)
            self._size += len(fresh)
            if (room := self._limit - len(self._data)) > 0:
                self._data += fresh[:room]
        self._position = end
        return data


def watch_stream(
    response: Any,
    on_close: Callable[[int, BaseException | None], None],
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Count what a server takes from a streaming response, and tell when the response is closed.

    Status, headers and ``file_to_stream`` stay as they are: the iterator is replaced beneath
    ``response.streaming_content``, whose setter would forget the file.

    Args:
        response: a ``StreamingHttpResponse`` or ``FileResponse``, sync or async, that nobody has read yet.
        on_close: called once, at ``response.close()``, when the iterator fails, or when the task that serves the
            request ends, with the number of bytes and the error that ended the stream: the iterator's own,
            ``CancelledError``, or ``ConnectionAbortedError`` where the server stopped early.
        inside: gives the context in which each part is made.
    """
    kind = _AsyncCounter if response.is_async else _SyncCounter
    counter = kind(response, on_close, inside)
    response._iterator = counter
    response._resource_closers.append(counter.report)
    _when_task_ends(counter.report)


class _Counter:
    """Counts the bytes of one iterator."""

    def __init__(
        self,
        response: Any,
        on_close: Callable[[int, BaseException | None], None],
        inside: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._response = response
        self._iterator = response._iterator
        self._on_close = on_close
        self._inside = inside
        self._size = 0
        self._started = False
        self._exhausted = False
        self._reported = False

    def report(self, error: BaseException | None = None) -> None:
        """Tell how the stream ended, the first time that this is called."""
        if self._reported:
            return
        self._reported = True
        size, declared = self._size, _content_length(self._response)
        if not self._started and _sent_by_server(self._response):
            size = declared
        elif error is None and self._started and not self._exhausted and size != declared:
            error = ConnectionAbortedError(f"the stream was closed after {size} bytes, before its end")
        self._on_close(size, error)

    def _count(self, part: Any) -> Any:
        self._size += len(part) if isinstance(part, bytes) else len(self._response.make_bytes(part))
        return part


class _SyncCounter(_Counter):
    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._started = True
        try:
            with self._inside():
                return self._count(next(self._iterator))
        except StopIteration:
            self._exhausted = True
            raise
        except BaseException as error:
            self.report(error)  # now, as Django's ASGI handler closes no response that failed
            raise


class _AsyncCounter(_Counter):
    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self._started:
            self._started = True
            _when_task_ends(self.report)  # a sync middleware in front of us leaves us no task before
        try:
            with self._inside():
                return self._count(await anext(self._iterator))
        except StopAsyncIteration:
            self._exhausted = True
            raise
        except BaseException as error:
            self.report(error)
            raise


def _when_task_ends(report: Callable[[], None]) -> None:
    """Report at the end of the task that serves the request: a cancelled one closes no response."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return  # no event loop: a WSGI server always closes
    if task is not None:
        task.add_done_callback(lambda _: report())


def _sent_by_server(response: Any) -> bool:
    """Whether the server's ``wsgi.file_wrapper`` took the file: Django ties the file's close to the response's then."""
    file = getattr(response, "file_to_stream", None)
    return file is not None and getattr(file, "close", None) == response.close


def _content_length(response: Any) -> int:
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdecimal() and len(value) < 19 else 0
