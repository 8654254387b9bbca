"""One request's way through the guard, from the door to the record that is spooled before the response leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import ContentNotRenderedError
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from otel_audit import attributes as keys
from otel_audit.bodies import watch_stream
from otel_audit.conf import conf
from otel_audit.delivery import Receipt, delivery
from otel_audit.edges import caught, edge
from otel_audit.integrations.signin import conclude
from otel_audit.lean_span import start_lean_span
from otel_audit.peers import CARRIER_HEADER, STATE_HEADER, continue_process
from otel_audit.policy import Decision, Policy
from otel_audit.provider import private_tracer, request_takers, site_tracer, unwatched_provider
from otel_audit.request_facts import intent_facts, request_facts
from otel_audit.request_policy import ask_for_groups, excluded_by, settle, wants_groups
from otel_audit.request_scope import RequestScope, offer_places, scope_of, status_of
from otel_audit.request_span import conclude_span, first_attributes, inbound_context
from otel_audit.routes import is_health_view
from otel_audit.scope import current_note, current_request

__all__ = ["Passage"]

OFF: Final = "off"
REQUIRE: Final = "require"
#: When a client that was refused may try again: the drain makes room in a full spool within seconds.
RETRY_AFTER_S: Final = 5


class Passage:
    """One request's way through the guard: opens a scope, and a SERVER span unless OpenTelemetry's middleware does."""

    __slots__ = ("_intents", "_outer", "_outer_note", "_span", "_takers", "_token", "receipt", "scope")

    def __init__(self, scope: RequestScope, intents: str) -> None:
        self.scope = scope
        self._intents = intents
        self._outer = current_request.get()
        self._outer_note = current_note.get()
        self._span: Any = None
        self._token: Any = None
        self._takers: Sequence[Any] | None = None  # who is given the ended span; None: the SDK sees to that
        self.receipt: Receipt | None = None

    @classmethod
    def begin(cls, request: HttpRequest, starts_span: bool) -> Passage | HttpResponse | None:
        """Open the scope; None when recording is off or a layer further out has opened it.

        Where that fails and the site requires intents, what is returned is the refusal.
        """
        if scope_of(request) is not None:
            return None
        try:
            now = conf.now()
            if not now.ENABLED:
                offer_places(request)
                return None
            passage = cls(RequestScope(request, _decide(now.policy, request)), now.INTENTS)
            current_request.set(passage.scope)
            if CARRIER_HEADER in request.META or STATE_HEADER in request.META:
                continue_process(passage.scope)
            try:
                delivery().start()
                passage._start_span(request, starts_span)
            except Exception:
                caught("guard.start_span")
        except Exception:
            caught("guard.begin")
            with edge("guard.offer_places"):
                offer_places(request)
            return _refusal() if conf.intents == REQUIRE else None
        return passage

    def intend(self) -> bool:
        """Spool that the request begins, where the site asks for it; False when that failed."""
        if self._intents == OFF:
            return True
        with edge("guard.intend"):
            scope = self.scope
            context = scope.span.get_span_context() if scope.span is not None else None
            self.receipt = delivery().intend(scope.record_id, scope.started_ns, intent_facts(scope), context)
            return self.receipt is not None
        return False

    def must_refuse(self) -> bool:
        """Whether a request without an intent goes no further. The health view does: it is to say what is wrong."""
        return self._intents == REQUIRE and not is_health_view(self.scope.request)

    def refuse(self) -> HttpResponse:
        """Answer in the place of the site, whose view must not run: nothing would tell of it if it was killed."""
        self.leave()
        with edge("guard.refuse"):
            self.scope.finish()
            delivery().withdraw(self.scope.record_id)  # the disk may have refused what the file has taken
            self._conclude_span(503)
        return _refusal()

    def resolve_actor(self) -> None:
        """Find out who acted, asking for the session's user where the view never did."""
        try:
            user = self.scope.unresolved_user()
            if user is not None:
                bool(user.is_authenticated)  # evaluates the lazy object
        except Exception:
            caught("guard.resolve_actor")
        self.scope.settle_actor()
        if not self.scope.decision.is_final and wants_groups(self.scope):
            ask_for_groups(self.scope)

    async def aresolve_actor(self) -> None:
        """Find out who acted, in an event loop."""
        with edge("guard.resolve_actor"):
            user = self.scope.unresolved_user()
            if user is not None:
                await sync_to_async(lambda: user.is_authenticated)()
        self.scope.settle_actor()
        if not self.scope.decision.is_final and wants_groups(self.scope):
            await sync_to_async(ask_for_groups)(self.scope)

    def finish(self, response: HttpResponseBase) -> None:
        """Emit the record, or see to it that a streaming response does so when it is closed."""
        self.leave()
        scope = self.scope
        if not isinstance(response, HttpResponseBase):
            self._emit(None, None)  # a middleware returned no response; Django fails on it when we have gone
            return
        try:
            conclude(scope, response)
        except Exception:
            caught("guard.conclude")
        if getattr(response, "streaming", False):
            with edge("guard.pump"):
                self.receipt = delivery().pump()
            watch_stream(
                response,
                lambda size, error: self._stream_closed(response, size, error),
                lambda: _Inside(scope),
            )
            return
        self._emit(response, _content_size(response))

    def wait(self) -> bool:
        """Wait until what was emitted survives a power loss, where the site asks for that; False: the disk failed."""
        return self.receipt is None or self.receipt.wait()

    async def wait_async(self) -> bool:
        """Wait for it in an event loop."""
        return self.receipt is None or await self.receipt.wait_async()

    def aborted(self, error: BaseException) -> None:
        """Emit the record of a request that got no response: cancelled, or the process is told to exit."""
        with edge("guard.aborted"):
            self.leave()
            self.scope.settle_actor()
            self.scope.failed(error)
            with edge("guard.conclude"):
                conclude(self.scope, None)
            # Django has no answer to an exception that gets here; the server has: an error page of its own.
            self._emit(None, None, failed=isinstance(error, Exception))

    def _stream_closed(self, response: HttpResponseBase, size: int, error: BaseException | None) -> None:
        with edge("guard.stream_closed"):
            self.scope.failed(error)
            self._emit(response, size, failed=error is not None)
            self.wait()

    def leave(self) -> None:
        """Restore what enclosed the request, whatever the view left open; its records still find it by their notes."""
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = None
        current_request.set(self._outer)
        current_note.set(self._outer_note)

    def _emit(self, response: HttpResponseBase | None, size: int | None, *, failed: bool = False) -> None:
        scope = self.scope
        status = status_of(response)
        for end in scope.at_exit:
            with edge("guard.at_exit"):
                end(scope)
        scope.finish()
        with edge("guard.route"):
            scope.view_missed()
        if not scope.decision.is_final:
            settle(scope, status)
        if not scope.is_recorded(status, failed=failed):
            self._end_span(status)
            delivery().withdraw(scope.record_id)
            delivery().excluded(excluded_by(scope))
            self.receipt = delivery().pump()
            return
        try:
            facts = request_facts(scope, response, response_size=size)
            if failed:
                facts["outcome"] = keys.OUTCOME_FAILURE
            elif response is None:
                facts["outcome"] = keys.OUTCOME_UNKNOWN
            self.receipt = delivery().request(self._end_span(status), scope.record_id, facts, scope.logins)
            scope.error = None  # its traceback holds every frame of the request
        except Exception:
            caught("guard.facts")

    # ── the SERVER span ─────────────────────────────────────────────────────────────────────────

    def _start_span(self, request: HttpRequest, starts_span: bool) -> None:
        scope = self.scope
        enclosing = trace.get_current_span()
        is_server = enclosing.is_recording() and getattr(enclosing, "kind", None) is SpanKind.SERVER
        if is_server and self._outer is None:
            scope.span = enclosing  # an outer WSGI or ASGI instrumentation's
            return
        tracer = site_tracer()  # attaches us to the site's provider before its own middleware starts the span
        if not starts_span:
            if isinstance(tracer, trace.NoOpTracer):  # that middleware's span records nothing either
                self._start_private_span()
            return
        parent = inbound_context(request.META)
        attributes = first_attributes(scope)
        unwatched = unwatched_provider()
        if unwatched is not None:
            self._span = scope.span = start_lean_span(unwatched, scope.method, parent, attributes)
        if unwatched is not None and self._span is not None:
            self._takers = request_takers(unwatched)
        else:
            self._span = tracer.start_span(scope.method, context=parent, kind=SpanKind.SERVER, attributes=attributes)
        self._token = otel_context.attach(trace.set_span_in_context(self._span, parent))
        if not self._span.is_recording():
            self._start_private_span()

    def _start_private_span(self) -> None:
        """Start the request's span on our own provider, where no other records one. It is never made current."""
        scope = self.scope
        parent = trace.set_span_in_context(self._span) if self._span is not None else inbound_context(scope.meta)
        scope.span = scope.private_span = private_tracer().start_span(
            scope.method,
            context=parent,
            kind=SpanKind.SERVER,
            attributes=first_attributes(scope),
            start_time=scope.started_ns,
        )

    def _conclude_span(self, status: int | None) -> None:
        """End the span that this guard started, if it did."""
        if self._span is not None and self._span.is_recording():
            takers = self._takers
            conclude_span(self._span, self.scope, status, is_seen=takers is None or len(takers) > 0)
            for processor in takers or ():
                processor.on_end(self._span)

    def _end_span(self, status: int | None) -> Any:
        """End the span that this guard started; return the request's span, a private one where none was recorded."""
        scope = self.scope
        self._conclude_span(status)
        if scope.span is None:
            # Without one, the site's instrumentation left this request out: excluded by URL, or refused before it.
            self._start_private_span()
        if scope.private_span is not None and scope.private_span.is_recording():
            conclude_span(scope.private_span, scope, status)
        return scope.span


class _Inside:
    """Lets the parts of a streaming response be made inside the request whose view has returned already."""

    __slots__ = ("_request", "_scope", "_token")

    def __init__(self, scope: RequestScope) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._request = current_request.get()
        current_request.set(self._scope)
        self._token = None
        span = self._scope.span
        if span is None or span is self._scope.private_span:
            return
        if not trace.get_current_span().get_span_context().is_valid:
            self._token = otel_context.attach(trace.set_span_in_context(span))

    def __exit__(self, *error: object) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
        current_request.set(self._request)


def _decide(policy: Policy, request: HttpRequest) -> Decision:
    """Return what the policy says. A prefix that came as a header, as gunicorn takes it, excludes nothing."""
    decision = policy.decide(request.path, request.method or "")
    if not decision.record and "HTTP_SCRIPT_NAME" in request.META:
        return policy.decide(request.path_info, request.method or "")
    return decision


def _refusal() -> HttpResponse:
    """Count a refused request and return its answer."""
    with edge("guard.refusal"):
        delivery().refused()
    return HttpResponse(
        "The audit trail cannot be written, and this site serves no request without it.\n",
        status=503,
        content_type="text/plain; charset=utf-8",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _content_size(response: HttpResponseBase) -> int | None:
    """Return the bytes of a body; None where it has none, or was never rendered: the server will fail on it."""
    try:
        return len(response.content)  # type: ignore[attr-defined]  # looked for
    except (AttributeError, ContentNotRenderedError):
        return None
