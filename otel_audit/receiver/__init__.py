"""Takes spans of other services by OTLP/HTTP: a view that a site can mount, and a server of its own.

::

    path("v1/traces", receive_traces)

Without a line of code: ``manage.py otel_audit receive``.
"""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from opentelemetry import trace

from otel_audit.attributes import AUDIT_RECEIVER
from otel_audit.receiver.answers import JSON, Answer, refused
from otel_audit.receiver.exchange import Exchange
from otel_audit.request_policy import RECEIVER
from otel_audit.request_scope import scope_of

__all__ = ["receive_traces"]

#: Whom nobody let in: the default policy records that of any view.
_DENIALS = (401, 403)


@transaction.non_atomic_requests  # a default database that is away would answer with 500, before this view can
@csrf_exempt
@login_not_required
@never_cache
def receive_traces(request: HttpRequest) -> HttpResponse:
    """Take an OTLP request; the sender shows a token that ``manage.py otel_audit token create`` made.

    The default policy leaves its requests out, under whatever path, but for those that were denied; a rule of
    ``POLICY`` for that path counts. Its span makes no record when it comes back to it from a collector.
    """
    _mark_span(request)
    answer = _answer(request)
    if answer.status not in _DENIALS:
        _leave_out(request)
    response = HttpResponse(answer.body, status=answer.status, content_type=answer.content_type)
    for name, value in answer.headers.items():
        response[name] = value
    return response


def _answer(request: HttpRequest) -> Answer:
    if request.method != "POST":
        return refused(405, "Spans come by POST.", JSON, {"Allow": "POST"})
    exchange = Exchange(lambda name: request.headers.get(name) or "", request.META.get("REMOTE_ADDR") or "")
    return exchange.refusal() or exchange.answer(_body(request))


def _body(request: HttpRequest) -> bytes | None:
    """Return the body, a byte too much where it is too large. ``request.body`` has another limit, and no reason."""
    from otel_audit_exporters.otlp_requests import MAX_BYTES

    body = bytearray()
    try:
        while len(body) <= MAX_BYTES and (part := request.read(MAX_BYTES + 1 - len(body))):
            body += part
    except OSError:  # the client went away
        return None
    length = request.headers.get("content-length") or ""
    return None if length.isdecimal() and len(body) < int(length) <= MAX_BYTES else bytes(body)


def _mark_span(request: HttpRequest) -> None:
    scope = scope_of(request)
    span = scope.span if scope is not None else trace.get_current_span()
    if span is not None and span.is_recording():
        span.set_attribute(AUDIT_RECEIVER, True)


def _leave_out(request: HttpRequest) -> None:
    scope = scope_of(request)
    if scope is not None:
        scope.left_out = RECEIVER
