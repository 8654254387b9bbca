"""Watches bodies go by: what a view reads of a request, what a server takes from a streaming response.

Nothing here reads ahead or holds back: a request body that the view never read is not read by us, a response is
handed on part by part. The record gets what was seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
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

    def captured(self) -> Captured:
        """Return what was read so far."""
        return Captured(bytes(self._data), self._size, self._hash.hexdigest(), self._size > len(self._data))

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        """Read as the stream does."""
        return self._note(self._stream.read(*args, **kwargs))

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
        end = self._position + len(data)
        if end > self._size:
            fresh = data[max(0, self._size - self._position) :] if self._position < self._size else data
            self._hash.update(fresh)
            self._size += len(fresh)
            if (room := self._limit - len(self._data)) > 0:
                self._data += fresh[:room]
        self._position = end
        return data


def watch_stream(response: Any, on_close: Callable[[int, BaseException | None], None]) -> None:
    """Count what a server takes from a streaming response, and tell when the response is closed.

    Status, headers and ``file_to_stream`` stay as they are: the iterator is replaced beneath
    ``response.streaming_content``, whose setter would forget the file.

    Args:
        response: a ``StreamingHttpResponse`` or ``FileResponse``, sync or async, that nobody has read yet.
        on_close: called once, at ``response.close()``, with the number of bytes and the error that ended the stream:
            the iterator's own, ``CancelledError``, or ``ConnectionAbortedError`` where the server stopped early.
    """
    if response.is_async:
        counter: _Counter = _AsyncCounter(response, response._iterator)
    else:
        counter = _SyncCounter(response, response._iterator)
    response._iterator = counter
    response._resource_closers.append(lambda: _closed(response, counter, on_close))


class _Counter:
    """Counts the bytes of one iterator."""

    def __init__(self, response: Any, iterator: Any) -> None:
        self._make_bytes = response.make_bytes
        self._iterator = iterator
        self.size = 0
        self.started = False
        self.exhausted = False
        self.reported = False
        self.error: BaseException | None = None

    def _count(self, part: Any) -> Any:
        self.size += len(part) if isinstance(part, bytes) else len(self._make_bytes(part))
        return part


class _SyncCounter(_Counter):
    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.started = True
        try:
            return self._count(next(self._iterator))
        except StopIteration:
            self.exhausted = True
            raise
        except BaseException as error:
            self.error = error
            raise


class _AsyncCounter(_Counter):
    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self.started = True
        try:
            return self._count(await anext(self._iterator))
        except StopAsyncIteration:
            self.exhausted = True
            raise
        except BaseException as error:
            self.error = error
            raise


def _closed(response: Any, counter: _Counter, on_close: Callable[[int, BaseException | None], None]) -> None:
    if counter.reported:
        return
    counter.reported = True
    size, error = counter.size, counter.error
    declared = _content_length(response)
    if not counter.started and _sent_by_server(response):
        size = declared
    elif error is None and counter.started and not counter.exhausted and size != declared:
        error = ConnectionAbortedError(f"the stream was closed after {size} bytes, before its end")
    on_close(size, error)


def _sent_by_server(response: Any) -> bool:
    """Whether the server's ``wsgi.file_wrapper`` took the file: Django ties the file's close to the response's then."""
    file = getattr(response, "file_to_stream", None)
    return file is not None and getattr(file, "close", None) == response.close


def _content_length(response: Any) -> int:
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdecimal() and len(value) < 19 else 0
