"""Who a sender is: its token, looked up in what this process remembers of the audit database.

All tokens are read anew every few seconds: so a revoked one ends within that time, and the tokens that are known go on
while the audit database is away, when records wait in the spool as ever.
"""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from django.db import DatabaseError

from otel_audit.conf import conf
from otel_audit.receiver.hashes import certificate_hash, token_hash
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.database import answer_in_time, own_connection

__all__ = ["REFRESH_S", "Sender", "Senders", "TokensUnknownError", "senders"]

#: So long at most a revoked token is still taken.
REFRESH_S: Final = 5.0
#: So long at most a new one is not taken yet: who is refused for a token throws the spans away.
NEW_S: Final = 1.0
#: So long the tokens that are known count while the audit database cannot be asked.
KEPT_S: Final = 3600.0
#: When the tokens were read longer ago, one that is not known may be new.
STALE_S: Final = 10.0
#: Of a rate, so many seconds may come at once.
_BURST_S: Final = 10.0


class TokensUnknownError(Exception):
    """The audit database cannot be asked for the tokens, and what was known of them is too old."""


@dataclass(slots=True)
class Sender:
    """A token that counts: its service, and how many spans it may still send."""

    service: str
    rate: int | None
    _left: float = 0.0
    _at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._left = (self.rate or 0) * _BURST_S
        self._at = time.monotonic()

    def wait_s(self) -> int:
        """Return how many seconds the sender has to wait; 0 when it may send."""
        if self.rate is None:
            return 0
        with self._lock:
            now = time.monotonic()
            self._left = min(self.rate * _BURST_S, self._left + (now - self._at) * self.rate)
            self._at = now
            return 0 if self._left > 0 else max(1, math.ceil(-self._left / self.rate))

    def spend(self, spans: int) -> None:
        """Count what was sent. A request is taken whole, so that none is too large for ever: the next one waits."""
        with self._lock:
            self._left -= spans


class Senders:
    """The tokens of the audit database, as far as this process knows them."""

    def __init__(self) -> None:
        self._known: dict[str, Sender] = {}
        self._source: tuple[str, str] | None = None
        self._read_at = -math.inf
        self._asked_at = -math.inf
        self._lock = threading.Lock()

    def find(self, token: str) -> Sender | None:
        """Return who shows ``token``; None where it is unknown or revoked.

        Raises:
            TokensUnknownError: that cannot be said now.
        """
        return self._find(token_hash(token))

    def find_certificate(self, name: str) -> Sender | None:
        """Return who has the certificate of this ``name``, as `find` does."""
        return self._find(certificate_hash(name))

    def _find(self, digest: str) -> Sender | None:
        source = conf.database, conf.fingerprint
        if self._source != source or time.monotonic() - self._asked_at > REFRESH_S:
            self._refresh(source, REFRESH_S)
        found = self._known.get(digest)
        if found is None and time.monotonic() - self._asked_at > NEW_S:
            self._refresh(source, NEW_S)
            found = self._known.get(digest)
        age = time.monotonic() - self._read_at
        if age > KEPT_S or (found is None and age > STALE_S):
            raise TokensUnknownError
        return found

    def _refresh(self, source: tuple[str, str], after_s: float) -> None:
        """Read the tokens, if that was done longer than ``after_s`` ago.

        While one thread does, the others go on with what is known, if anything is.
        """
        nothing_is_known = self._source != source or self._read_at == -math.inf
        if not self._lock.acquire(blocking=nothing_is_known):
            return
        try:
            if self._source == source and time.monotonic() - self._asked_at <= after_s:
                return  # another thread has done it
            if self._source != source:
                self._known, self._read_at, self._source = {}, -math.inf, source
            asked = time.monotonic()
            self._known = self._read()
            self._read_at = asked
        except DatabaseError as error:
            raise_alarm("tokens", 0, f"The tokens of the receiver cannot be read: {error}")
        finally:
            self._asked_at = time.monotonic()
            self._lock.release()

    def _read(self) -> dict[str, Sender]:
        from otel_audit.receiver.models import ReceiverToken

        alias = conf.database
        with own_connection(alias), answer_in_time(alias):
            rows = ReceiverToken.objects.using(alias).filter(revoked_at=None)
            found = list(rows.values_list("hash", "service", "spans_per_second"))
        return {digest: self._sender(digest, service, rate) for digest, service, rate in found}

    def _sender(self, digest: str, service: str, rate: int | None) -> Sender:
        known = self._known.get(digest)
        return known if known is not None and (known.service, known.rate) == (service, rate) else Sender(service, rate)


senders: Final = Senders()


def _after_fork_in_child() -> None:
    """Another thread of the parent may have held the locks at the fork."""
    senders.__init__()  # type: ignore[misc]  # the same object, as it is imported by name


os.register_at_fork(after_in_child=_after_fork_in_child)
