"""The two layers of a request: the guard, outermost, and the user's entry, innermost.

The guard alone sees a bad Host, redirects, errors of other middleware and the status that the client really got, and
it alone emits the request's record, spooled before the response leaves. The user's entry sees the view and its
exceptions. One body in plain functions, two thin callers: sync and async.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from otel_audit.conf import conf
from otel_audit.edges import caught, edge
from otel_audit.passage import Passage
from otel_audit.request_scope import scope_of
from otel_audit.span_facts import describe_span

__all__ = [
    "GUARD_PATH",
    "OTEL_PATH",
    "AuditMiddleware",
    "GuardMiddleware",
    "RequestLoginAuditEventMiddleware",
]

GUARD_PATH: Final = "otel_audit.middleware.GuardMiddleware"
OTEL_PATH: Final = "opentelemetry.instrumentation.django.middleware.otel_middleware._DjangoMiddleware"

GetResponse = Callable[[HttpRequest], Any]


class _Layer:
    """Serves a request as its guard unless a layer further out does so already."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        self._starts_span = OTEL_PATH not in settings.MIDDLEWARE
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Serve ``request``; returns a coroutine under async."""
        if self._is_async:
            return self.__acall__(request)
        passage = Passage.begin(request, self._starts_span)
        if not isinstance(passage, Passage):
            response = passage or self.get_response(request)
            if not self._starts_span:
                describe_span(request)
            return response
        try:
            if not (passage.intend() and passage.wait()) and passage.must_refuse():
                return passage.refuse()
            response = self.get_response(request)
        except BaseException as error:
            passage.aborted(error)
            raise
        try:
            passage.resolve_actor()
        except Exception:
            caught("guard.actor")
        try:
            passage.finish(response)
            passage.wait()
        except Exception:
            caught("guard.finish")
        return response  # type: ignore[no-any-return]  # Django's own signature

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """Serve ``request`` in an event loop."""
        passage = Passage.begin(request, self._starts_span)
        if not isinstance(passage, Passage):
            response = passage or await self.get_response(request)
            if not self._starts_span:
                describe_span(request)
            return response
        try:
            if not (passage.intend() and await passage.wait_async()) and passage.must_refuse():
                return passage.refuse()
            response = await self.get_response(request)
            try:
                await passage.aresolve_actor()
            except Exception:
                caught("guard.actor")
        except BaseException as error:
            passage.aborted(error)
            raise
        with edge("guard.finish"):
            if conf.delivery == "sync":
                passage.leave()  # here: a context is left where it was entered, not in a thread
                await sync_to_async(passage.finish)(response)
            else:
                passage.finish(response)
            await passage.wait_async()
        return response  # type: ignore[no-any-return]  # Django's own signature


class GuardMiddleware(_Layer):
    """The outer layer. ``otel_audit`` puts it at index 0 of ``MIDDLEWARE`` by itself."""


class AuditMiddleware(_Layer):
    """The entry that a site writes into ``MIDDLEWARE``, wherever it stands; last is best.

    Inside the guard it notes the view's route and exceptions. Where no guard stands outside, it is one.
    """

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(get_response)
        if self._is_async:
            # Django would send the plain method to a thread and wait for it, in every request.
            self.process_view = self._aprocess_view  # type: ignore[method-assign,assignment]

    def process_view(self, request: HttpRequest, view_func: Any, view_args: Any, view_kwargs: Any) -> None:
        """Note the route that was found."""
        try:
            if (scope := scope_of(request)) is not None:
                scope.view_found(request)
        except Exception:
            caught("middleware.process_view")

    async def _aprocess_view(self, request: HttpRequest, *view: Any) -> None:
        AuditMiddleware.process_view(self, request, *view)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Note the view's exception before any other middleware turns it into a response."""
        with edge("middleware.process_exception"):
            if (scope := scope_of(request)) is not None:
                scope.failed(exception)


class RequestLoginAuditEventMiddleware(AuditMiddleware):
    """`AuditMiddleware` under the name that ``drf-audit-trail`` users know."""
