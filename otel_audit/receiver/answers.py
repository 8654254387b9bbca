"""What the receiver answers, in the encoding of the request, as the OTLP specification says.

https://opentelemetry.io/docs/specs/otlp/#otlphttp-response. A refusal has a ``google.rpc.Status`` in it, which is
written here, as the package that has it is no part of OTLP's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

__all__ = ["JSON", "PROTOBUF", "Answer", "accepted", "refused"]

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

#: HTTP status → canonical code of gRPC.
_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 409: 6, 413: 8, 415: 3, 429: 8, 503: 14}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, whoever sends it."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def accepted(content_type: str) -> Answer:
    """Return the answer to a request of which every record is safe: an empty ``ExportTraceServiceResponse``."""
    return Answer(200, content_type, b"{}" if content_type == JSON else b"")


def refused(status: int, message: str, content_type: str, headers: dict[str, str] | None = None) -> Answer:
    """Return the answer to a request of which nothing was taken."""
    code = _CODES[status]
    if content_type == PROTOBUF:
        said = message.encode()
        body = b"\x08" + _varint(code) + b"\x12" + _varint(len(said)) + said
    else:
        body = json.dumps({"code": code, "message": message}).encode()
    return Answer(status, content_type, body, headers or {})


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
