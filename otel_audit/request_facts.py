"""What a request's record says beside its span: collected when the response is there, redacted before it leaves.

What identifies the request never fails. Each further part stands for itself: one that cannot be had is named in
``changed`` as lost, and the rest of the record is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from django.http import HttpResponseBase

from otel_audit import attributes as keys
from otel_audit.client_ip import client_address, parse_networks
from otel_audit.conf import conf
from otel_audit.edges import caught
from otel_audit.exception_facts import describe_exception
from otel_audit.links import mask_query
from otel_audit.originals import original
from otel_audit.own_facts import add_own, untrusted_headers
from otel_audit.redaction import Body, Redactor
from otel_audit.request_scope import RequestScope, status_of
from otel_audit.routes import match_ahead, match_near

__all__ = ["intent_facts", "request_facts"]

_REMEMBERED_LENGTH: Final = 256


def request_facts(
    scope: RequestScope, response: HttpResponseBase | None, *, response_size: int | None = None
) -> dict[str, Any]:
    """Return the facts of a request, JSON-able and without secrets.

    Args:
        scope: the request.
        response: what the client got; None where it got nothing.
        response_size: bytes of its body; None where nobody counted them.
    """
    redactor = conf.redactor
    actor = scope.actor()
    facts: dict[str, Any] = {
        **_at_the_door(scope, scope.path_route, redactor),
        "route": scope.route,
        "status": status_of(response),
        "duration_ms": round(scope.elapsed_ms(), 3),
        "actor": None if actor is None else (actor.id, actor.name, actor.type),
        "request_size": _request_size(scope),
        "response_size": response_size,
    }
    changed: list[str] = []
    if not (scope.metadata_only or scope.has_sign_in):
        try:
            _add_request_body(scope, facts, changed, redactor)
        except Exception:
            changed.append("request_body:lost")
            caught("facts.request_body")
        try:
            _add_response_body(scope, response, facts, changed, redactor)
        except Exception:
            changed.append("response_body:lost")
            caught("facts.response_body")
    if scope.error is not None:
        try:
            facts["error"] = describe_exception(scope.error)
        except Exception:
            changed.append("error_stacktrace:lost")
            caught("facts.error")
    try:
        extra = scope.view_data()
        if extra is not None:
            facts["extra"] = redactor.value(extra)
    except Exception:
        changed.append("extra_informations:lost")
        caught("facts.extra")
    if scope.own or scope.forwarded_for or scope.forwarded:
        try:
            own = scope.own
            if scope.forwarded_for or scope.forwarded:
                own = {**own, **untrusted_headers(scope.forwarded_for, scope.forwarded, redactor)}
            add_own(facts, own)
        except Exception:
            changed.append("extra_informations:lost")
            caught("facts.own")
    if changed:
        facts["changed"] = changed
    return facts


def intent_facts(scope: RequestScope) -> dict[str, Any]:
    """Return what is known of a request before any middleware of the site has run; who acts is not."""
    route, kwargs = match_ahead(scope.request)
    near = (route, kwargs) if route else match_near(scope.request.path_info, scope.urlconf)
    facts = {
        **_at_the_door(scope, near, conf.redactor),
        "route": route,
        "status": None,
        "duration_ms": None,
        "actor": None,
        "request_size": _request_size(scope) if scope.content_length else None,
        "response_size": None,
        "outcome": keys.OUTCOME_UNKNOWN,
    }
    if scope.forwarded_for or scope.forwarded:
        add_own(facts, untrusted_headers(scope.forwarded_for, scope.forwarded, conf.redactor))
    return facts


def _at_the_door(scope: RequestScope, matched: tuple[str, Mapping[str, Any]], redactor: Redactor) -> dict[str, Any]:
    return {
        "method": scope.method,
        "url": _masked_path(scope.path, *matched, redactor),
        "query": mask_query(scope.query, redactor, scope.path, scope.urlconf) if scope.query else "",
        "scheme": scope.scheme,
        "address": _client_address(scope.remote_addr, scope.forwarded_for, scope.forwarded, conf.now().TRUSTED_PROXIES),
        "user_agent": _masked(redactor, scope.user_agent),
    }


def _add_request_body(scope: RequestScope, facts: dict[str, Any], changed: list[str], redactor: Redactor) -> None:
    if scope.tee is None or not scope.tee.size or not scope.decision.request_body:
        return
    captured = scope.tee.captured()
    data = captured.data[: scope.decision.limit]
    body = redactor.body(
        data,
        scope.content_type,
        total_size=captured.size,
        sha256=captured.sha256,
        truncated=captured.size > len(data),
    )
    facts["request_body"] = body.text
    if body.changed:
        _note_changes("request_body", body, captured.size, captured.sha256, changed)


def _add_response_body(
    scope: RequestScope,
    response: HttpResponseBase | None,
    facts: dict[str, Any],
    changed: list[str],
    redactor: Redactor,
) -> None:
    if not scope.decision.response_body or response is None or getattr(response, "streaming", False):
        return
    content = response.content  # type: ignore[attr-defined]  # every response that does not stream has it
    if not content:
        return
    limit = scope.decision.limit
    body = redactor.body(
        content[:limit],
        response.get("Content-Type", ""),
        total_size=len(content),
        sha256=None,
        truncated=len(content) > limit,
    )
    facts["response_body"] = body.text
    if body.changed:
        known = body.changed != ("redacted",)
        _note_changes("response_body", body, len(content), sha256(content).hexdigest() if known else None, changed)


def _note_changes(column: str, body: Body, size: int, digest: str | None, changed: list[str]) -> None:
    changed.extend(f"{column}:{word}" for word in body.changed)
    changed.extend(original(column, size, None if "redacted" in body.changed else digest))


def _request_size(scope: RequestScope) -> int | None:
    """Return the size of the body: what was read of it, where it was read to its end, else what the client says."""
    if scope.tee is not None and scope.tee.exhausted:
        return scope.tee.size
    length = scope.content_length
    if length.isascii() and length.isdigit() and len(length) < 19:
        return int(length)
    return scope.tee.size if scope.tee is not None else None


def _masked_path(path: str, route: str, kwargs: Mapping[str, Any], redactor: Redactor) -> str:
    if kwargs and redactor.secret_route(route, kwargs):
        return redactor.route(path, route, kwargs)
    return _masked(redactor, path)


def _masked(redactor: Redactor, text: str) -> str:
    """Mask what comes again and again: user agents, paths. Long values are not worth remembering."""
    return _masked_before(redactor, text) if len(text) <= _REMEMBERED_LENGTH else redactor.text(text)


@lru_cache(maxsize=2048)
def _masked_before(redactor: Redactor, text: str) -> str:
    return redactor.text(text)


@lru_cache(maxsize=1024)
def _client_address(
    remote_addr: str, forwarded_for: str | None, forwarded: str | None, trusted: tuple[str, ...]
) -> str | None:
    return client_address(remote_addr, forwarded_for, forwarded, _networks(trusted))


@lru_cache(maxsize=8)
def _networks(trusted: tuple[str, ...]) -> Any:
    return parse_networks(trusted)
