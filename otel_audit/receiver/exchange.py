"""One exchange with a sender, whichever server is in front: who it is, what it sends, whether all of it is safe now.

All or nothing: what cannot be taken whole is refused whole, with a status by which a sender knows whether to try again.
Our own trouble is always 503 with ``Retry-After``, as an OpenTelemetry Collector throws away what gets a 500.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from otel_audit.client_ip import is_trusted, parse_networks
from otel_audit.conf import conf
from otel_audit.edges import caught
from otel_audit.receiver.answers import JSON, PROTOBUF, Answer, accepted, refused

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from otel_audit.receiver.tokens import Sender
    from otel_audit_exporters.envelope import Record
    from otel_audit_exporters.otlp_requests import UnacceptableError

__all__ = ["RETRY_AFTER_S", "Exchange"]

#: When a sender may try again what we could not take.
RETRY_AFTER_S: Final = 5
#: Records whose ids this process remembers, to tell at once that one comes again with another content.
_REMEMBERED: Final = 20_000

#: Of a Content-Length; Python refuses to read a number of thousands.
_MAX_DIGITS: Final = 18

_BEARER: Final = re.compile(r"bearer +([!-~]+) *", re.IGNORECASE)


class _Refusal(Exception):  # noqa: N818  # an answer, no error of ours
    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Exchange:
    """One request: who sends it is asked before its body is read.

    Args:
        headers: returns the value of the header with a lower-case name, ``""`` where it is not there.
        peer: the address of the other end of the connection; empty behind a UNIX socket.
    """

    def __init__(self, headers: Callable[[str], str], peer: str) -> None:
        self._headers = headers
        self._peer = peer
        self._content_type = headers("content-type").partition(";")[0].strip().lower()
        self._encoding = PROTOBUF if self._content_type == PROTOBUF else JSON
        self._sender: Sender | None = None

    def refusal(self) -> Answer | None:
        """Return why the request goes no further; None when its body is to be read."""
        return self._refused(self._admit)

    def answer(self, body: bytes | None) -> Answer:
        """Take the body, None where it did not come whole; return when every record in it is in the spool."""
        return self._refused(lambda: self._take(body)) or accepted(self._encoding)

    def _refused(self, part: Callable[[], None]) -> Answer | None:
        try:
            part()
        except _Refusal as refusal:
            return refused(refusal.status, str(refusal), self._encoding, refusal.headers)
        except Exception:
            caught("receiver")
            message = "The receiver is in trouble. Try again."
            return refused(503, message, self._encoding, {"Retry-After": str(RETRY_AFTER_S)})
        return None

    def _admit(self) -> None:
        from otel_audit_exporters.otlp_requests import MAX_BYTES, too_large

        if not conf.enabled:
            raise _unavailable("Recording is switched off.")
        self._sender = _sender(self._headers, self._peer)
        if wait := self._sender.wait_s():
            raise _Refusal(429, "The token sends more spans than it may.", {"Retry-After": str(wait)})
        if self._content_type not in (PROTOBUF, JSON):
            raise _Refusal(415, f"The Content-Type has to be {PROTOBUF} or {JSON}.")
        if self._compression() not in ("", "identity", "gzip"):
            raise _Refusal(415, "The Content-Encoding has to be gzip, or none.")
        length = self._headers("content-length")
        if length.isdecimal() and (len(length) > _MAX_DIGITS or int(length) > MAX_BYTES):
            raise self._unacceptable(too_large())

    def _take(self, body: bytes | None) -> None:
        from otel_audit_exporters.otlp_requests import UnacceptableError
        from otel_audit_exporters.received_records import records_of

        assert self._sender is not None  # noqa: S101  # `refusal` has been asked
        try:
            records, spans = records_of(self._parsed(body), self._sender.service)
            _known.check(records)
        except UnacceptableError as error:
            raise self._unacceptable(error) from error
        self._sender.spend(spans)
        if records:
            _store(records)

    def _parsed(self, body: bytes | None) -> ExportTraceServiceRequest:
        from otel_audit_exporters import otlp_requests

        if body is None:
            raise otlp_requests.UnacceptableError(400, "The body did not come whole.")
        if len(body) > otlp_requests.MAX_BYTES:
            raise otlp_requests.too_large()
        if self._compression() == "gzip":
            body = otlp_requests.inflate(body)
        parse = otlp_requests.parse_protobuf if self._content_type == PROTOBUF else otlp_requests.parse_json
        return parse(body)

    def _compression(self) -> str:
        return self._headers("content-encoding").strip().lower()

    def _unacceptable(self, error: UnacceptableError) -> _Refusal:
        """Return the refusal, with an alarm: most senders throw away what is refused for good."""
        from otel_audit_exporters.alarm import raise_alarm

        service = "" if self._sender is None else self._sender.service
        raise_alarm("conflict" if error.status == 409 else "refused", 1, f"{service}: {error}")
        return _Refusal(error.status, str(error))


def _sender(headers: Callable[[str], str], peer: str) -> Sender:
    """Return who shows a token, or else, where a trusted proxy says so, a certificate."""
    from otel_audit.receiver.tokens import TokensUnknownError, senders
    from otel_audit_exporters.alarm import raise_alarm

    authorization = headers("authorization")
    shown = _BEARER.fullmatch(authorization)
    certificate = "" if authorization else _certificate(headers, peer)
    sender = None
    try:
        if shown is not None:
            sender = senders.find(shown[1])
        elif certificate:
            sender = senders.find_certificate(certificate)
    except TokensUnknownError as error:
        raise _unavailable("The tokens cannot be looked up now.") from error
    if sender is not None:
        return sender
    if shown is not None or certificate:
        what = "a token that is not valid" if shown is not None else "a certificate that is not known"
        raise_alarm("denied", 1, f"Somebody sends spans with {what}.")
    raise _Refusal(401, "A valid bearer token is needed.", {"WWW-Authenticate": 'Bearer realm="otel_audit"'})


def _certificate(headers: Callable[[str], str], peer: str) -> str:
    """Return the name of the certificate that the proxy has checked; a header of anybody else says nothing."""
    name = conf.receiver_certificate_header
    if name is None or not is_trusted(peer, parse_networks(conf.trusted_proxies)):
        return ""
    return headers(name).strip()


def _store(records: list[Record]) -> None:
    from otel_audit.exceptions import OTelAuditError
    from otel_audit_exporters.alarm import raise_alarm
    from otel_audit_exporters.pipeline import pipeline

    try:
        pipeline.receive(records)
    except OTelAuditError as error:
        raise_alarm("receiver", len(records), error)
        raise _unavailable("The records cannot be stored now.") from error
    _known.remember(records)


def _unavailable(message: str) -> _Refusal:
    return _Refusal(503, f"{message} Try again.", {"Retry-After": str(RETRY_AFTER_S)})


class _Known:
    """The hashes of the last records that were taken, by id. The audit database remembers all, later."""

    def __init__(self) -> None:
        self._hashes: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, records: list[Record]) -> None:
        """Refuse a record whose id was taken with another content."""
        from otel_audit_exporters.otlp_requests import UnacceptableError

        hashes = self._hashes
        if any(hashes.get(record.id, record.hash) != record.hash for record in records):
            raise UnacceptableError(409, "A record with this id and another content was taken before.")

    def remember(self, records: list[Record]) -> None:
        """Remember what was taken."""
        with self._lock:
            self._hashes.update((record.id, record.hash) for record in records)
            while len(self._hashes) > _REMEMBERED:
                self._hashes.popitem(last=False)


_known: Final = _Known()
