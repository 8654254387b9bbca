"""Bytes → OTLP request: what a stranger sends is measured before it is unpacked, and refused with a reason.

Both encodings of OTLP/HTTP end in the same message. A few bytes can stand for much: what is inflated is bounded while
it is inflated, and spans are counted in the bytes, as an empty one takes two of them and 170 in memory.
"""

from __future__ import annotations

import binascii
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

from google.protobuf.json_format import Error as JsonError
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_audit.exceptions import OTelAuditError

__all__ = ["MAX_BYTES", "MAX_SPANS", "UnacceptableError", "inflate", "parse_json", "parse_protobuf", "too_large"]

#: Of one request, as it comes and when it is inflated.
MAX_BYTES: Final = 8 * 1024 * 1024
MAX_SPANS: Final = 10_000
#: Of JSON, whose reading takes 8 µs for each; a span with ten attributes has 25.
MAX_OBJECTS: Final = 500_000

_GZIP: Final = 16 + zlib.MAX_WBITS
#: Where spans are: resource_spans, in it scope_spans, in it spans.
_PATH_TO_SPANS: Final = (1, 2, 2)
_IDS: Final = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")


class UnacceptableError(OTelAuditError):
    """A request is refused; ``status`` is the one that the OTLP specification gives, the message what its sender reads.

    It says what is wrong in general, never what the request had in it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def too_large() -> UnacceptableError:
    """Return the refusal of a request that has too many bytes."""
    return UnacceptableError(413, f"The request has more than {MAX_BYTES} bytes; send fewer spans at a time.")


def inflate(body: bytes) -> bytes:
    """Return what is in ``body``, which is gzip; never more than `MAX_BYTES` are inflated.

    Raises:
        UnacceptableError: it is too large, cut off, no gzip, or something stands behind it.
    """
    inflater = zlib.decompressobj(_GZIP)
    try:
        inflated = inflater.decompress(body, MAX_BYTES + 1)
    except zlib.error as error:
        raise UnacceptableError(400, "The body is not the gzip that its Content-Encoding says.") from error
    if len(inflated) > MAX_BYTES:
        raise too_large()
    if not inflater.eof or inflater.unused_data:
        raise UnacceptableError(400, "The gzip of the body is cut off, or something stands behind it.")
    return inflated


def parse_protobuf(body: bytes) -> ExportTraceServiceRequest:
    """Read the binary encoding.

    Raises:
        UnacceptableError: it is no request, nested too deeply, or has too many spans.
    """
    malformed = "The body is no ExportTraceServiceRequest in protobuf, or is nested too deeply."
    try:
        found: Counter[int] = Counter()
        for level in _submessages(memoryview(body), _PATH_TO_SPANS):
            found[level] += 1
            _check_spans(found[level])
        request: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(body)
    except (DecodeError, IndexError) as error:
        raise UnacceptableError(400, malformed) from error
    return request


def parse_json(body: bytes) -> ExportTraceServiceRequest:
    """Read the JSON encoding, in which ids are hexadecimal, unlike in protobuf's own mapping.

    Raises:
        UnacceptableError: it is no request, nested too deeply, or has too many spans.
    """
    malformed = "The body is no ExportTraceServiceRequest in OTLP's JSON, or is nested too deeply."
    try:
        found = json.loads(body, object_hook=_counted())
        for number, span in enumerate(_json_spans(found), 1):
            _check_spans(number)
            for holder in (span, *_items(span, "links")):
                _ids_to_base64(holder)
        request: ExportTraceServiceRequest = ParseDict(found, ExportTraceServiceRequest(), ignore_unknown_fields=True)
    # ValueError: no JSON, no UTF-8, no hexadecimal, a number with too many digits. The others are of the wrong type.
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError, JsonError) as error:
        raise UnacceptableError(400, malformed) from error
    return request


def _check_spans(number: int) -> None:
    if number > MAX_SPANS:
        raise UnacceptableError(
            413, f"The request has more than {MAX_SPANS} spans, or resources; send fewer at a time."
        )


def _counted() -> Callable[[dict[str, Any]], dict[str, Any]]:
    numbers = count(1)

    def one_more(found: dict[str, Any]) -> dict[str, Any]:
        if next(numbers) > MAX_OBJECTS:
            raise UnacceptableError(413, f"The JSON has more than {MAX_OBJECTS} objects; send fewer spans at a time.")
        return found

    return one_more


def _submessages(data: memoryview, path: tuple[int, ...]) -> Iterator[int]:
    """Yield the level, from the last, of each message on ``path``. What is malformed is for the parser to say."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 2:
            length, at = _varint(data, at)
            if key >> 3 == path[0]:
                yield len(path)
                if len(path) > 1:
                    yield from _submessages(data[at : at + length], path[1:])
            at += length
        elif kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:  # groups, which OTLP has none of, and nonsense
            return


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise IndexError("a varint is too long")


def _json_spans(found: Any) -> Iterator[dict[str, Any]]:
    for resource_spans in _items(found, "resourceSpans", "resource_spans"):
        for scope_spans in _items(resource_spans, "scopeSpans", "scope_spans"):
            yield from _items(scope_spans, "spans")


def _items(holder: dict[str, Any], *names: str) -> Iterator[dict[str, Any]]:
    for name in names:
        yield from holder.get(name) or ()


def _ids_to_base64(holder: dict[str, Any]) -> None:
    for name in _IDS:
        if isinstance(written := holder.get(name), str):
            holder[name] = binascii.b2a_base64(bytes.fromhex(written), newline=False).decode()
