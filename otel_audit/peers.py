"""A process that another service began goes on in a request, where that service is one of ``TRUSTED_PEERS``.

The headers are those that `otel_audit.carrier` returns there, or plain W3C trace context whose ``tracestate`` is signed
by a service that a secret is shared with. Any other trace context makes no such claim and is honoured from everybody,
for correlation alone: steps point to a process only where the site has said whom it believes. Nothing in these headers
says who acts.
"""

from __future__ import annotations

import hmac
import json
import re
import time
from collections.abc import Mapping
from itertools import count
from typing import Any, Final
from uuid import UUID

from django.core import signing

from otel_audit.attributes import AUDIT_PROCESS_ID, KIND_PROCESS
from otel_audit.carriers import CARRIER_MAX_AGE_S, CARRIER_SALT
from otel_audit.client_ip import comes_from, parse_networks
from otel_audit.conf import conf
from otel_audit.edges import edge
from otel_audit.request_scope import RequestScope
from otel_audit.scope import Note, current_actor, current_note
from otel_audit.trace_member import process_in

__all__ = ["CARRIER_HEADER", "SECRET_HEADER", "STATE_HEADER", "continue_process"]

#: The signed part of a carrier, as WSGI names the header ``otel-audit``.
CARRIER_HEADER: Final = "HTTP_OTEL_AUDIT"
#: By which a service is known whose address is not: ``otel-audit-secret``.
SECRET_HEADER: Final = "HTTP_OTEL_AUDIT_SECRET"  # noqa: S105  # the name of a header
#: W3C's, by which a process goes on without code at the call.
STATE_HEADER: Final = "HTTP_TRACESTATE"

_TRACE_HEADER: Final = "HTTP_TRACEPARENT"
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-")
_MAX_HEADER: Final = 2048
_MAX_ORDER: Final = 1_000_000
#: A clock there may be ahead of ours.
_MAX_AHEAD_S: Final = 300


def continue_process(scope: RequestScope) -> None:
    """Let the steps in a request belong to the process that its sender names, if the sender is trusted."""
    with edge("peers.continue_process"):
        if not conf.trusted_peers:
            return
        process, order = _carried(scope)
        process = process or _in_trace(scope.meta)
        if process is None:
            return
        current_note.set(
            Note(
                KIND_PROCESS,
                process,
                scope=scope,
                request_id=scope.record_id,
                process_id=process,
                ambient=current_actor.get(),
                steps=count(order),
            )
        )
        scope.own[AUDIT_PROCESS_ID] = process


def _carried(scope: RequestScope) -> tuple[str | None, int]:
    """Return process and place of its next step as a carrier names them, where its sender is trusted."""
    signed = scope.meta.get(CARRIER_HEADER)
    if signed is None or not _is_trusted(scope):
        return None, 1
    payload = _payload(signed)
    order = payload.get("order")
    return _process_id(payload), order if isinstance(order, int) and 0 < order < _MAX_ORDER else 1


def _in_trace(meta: Mapping[str, Any]) -> str | None:
    """Return the process that W3C context names. Whoever brought it, who has signed it is trusted."""
    state, parent = meta.get(STATE_HEADER), meta.get(_TRACE_HEADER)
    if not isinstance(state, str) or not isinstance(parent, str):
        return None
    trace = _TRACE.match(parent)
    return None if trace is None else process_in(state, int(trace[1], 16))


def _is_trusted(scope: RequestScope) -> bool:
    shown = str(scope.meta.get(SECRET_HEADER, "")).encode("utf-8", "surrogatepass")
    secrets = [item["secret"] for item in conf.trusted_peers if isinstance(item, Mapping)]
    if any([hmac.compare_digest(secret.encode(), shown) for secret in secrets]):  # noqa: C419  # all of them: no timing
        return True
    peers = parse_networks(item for item in conf.trusted_peers if isinstance(item, str))
    proxies = parse_networks(conf.trusted_proxies)
    return comes_from(peers, scope.remote_addr, scope.forwarded_for, scope.forwarded, proxies)


def _payload(signed: Any) -> Mapping[str, Any]:
    """Return what a carrier says. It is signed with the key of the service there, which may be another than ours."""
    if not isinstance(signed, str) or len(signed) > _MAX_HEADER:
        return {}
    try:
        found = signing.loads(signed, salt=CARRIER_SALT, max_age=CARRIER_MAX_AGE_S)
    except signing.SignatureExpired:
        return {}
    except signing.BadSignature:
        found = _unverified(signed)
    return found if isinstance(found, Mapping) else {}


def _unverified(signed: str) -> Any:
    """Read a carrier without its signature: its sender is trusted, its age counts all the same."""
    try:
        data, stamp, _ = signed.rsplit(":", 2)
        age = time.time() - signing.b62_decode(stamp)
        if not -_MAX_AHEAD_S < age < CARRIER_MAX_AGE_S:
            return None
        return json.loads(signing.b64_decode(data.encode("ascii")))
    except (ValueError, LookupError, OverflowError, RecursionError):  # no carrier at all
        return None


def _process_id(payload: Mapping[str, Any]) -> str | None:
    try:
        return str(UUID(payload["process"]))
    except (KeyError, ValueError, TypeError, AttributeError):  # none, or of a process that is not recorded there
        return None
