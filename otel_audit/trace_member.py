"""Which process a trace runs in, as a signed member of W3C ``tracestate``: ``otel-audit=<process>-<signature>…``.

Every SDK hands the trace state down to the spans below and to the services that they call, whoever sent it: a client's
own member comes out of a trusted service as if that had set it, so an address says nothing about who wrote it. Only the
signature does, by a secret that both services have among their ``TRUSTED_PEERS``. It holds for one trace.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Mapping
from typing import Final
from uuid import UUID

from otel_audit.conf import conf

__all__ = ["MEMBER", "member_of", "process_in"]

#: The key of the member.
MEMBER: Final = "otel-audit"

_DOMAIN: Final = "otel-audit tracestate"
#: Hexadecimal digits of a signature: 128 bits.
_SIGNATURE: Final = 32
#: A value may have 256 characters: the process and as many signatures, one for each secret.
_MAX_SIGNATURES: Final = 6
_FORM: Final = re.compile(r"(?:^|,)[ \t]*otel-audit=([0-9a-f]{32})((?:-[0-9a-f]{32}){1,6})[ \t]*(?=,|$)")


def member_of(process_id: str, trace_id: int) -> str | None:
    """Return the value that names a process to the services this one has a secret with; None where there is none."""
    process = UUID(process_id).hex
    signatures = [_signature(secret, process, trace_id) for secret in _secrets()][:_MAX_SIGNATURES]
    return "-".join([process, *signatures]) if signatures else None


def process_in(trace_state: str, trace_id: int) -> str | None:
    """Return the process that a trace state names, as its header has it, where a trusted service has signed that."""
    if f"{MEMBER}=" not in trace_state:
        return None
    secrets = list(_secrets())
    for process, signatures in _FORM.findall(trace_state) if secrets else ():
        expected = [_signature(secret, process, trace_id) for secret in secrets]
        given = signatures[1:].split("-")
        if any([hmac.compare_digest(one, other) for one in given for other in expected]):  # noqa: C419  # all: no timing
            return str(UUID(process))
    return None


def _secrets() -> Iterator[str]:
    for item in conf.trusted_peers:
        if isinstance(item, Mapping):
            yield item["secret"]


def _signature(secret: str, process: str, trace_id: int) -> str:
    text = f"{_DOMAIN}\0{trace_id:032x}\0{process}"
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()[:_SIGNATURE]
