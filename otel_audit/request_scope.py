"""One request as the guard sees it: what is known at the door, and what is learned on the way.

What identifies the request is read at the door, as a view may spoil ``request.META``, ``.method`` or ``.user``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import LazyObject, empty

from otel_audit import attributes as keys
from otel_audit.bodies import TeeStream
from otel_audit.conf import conf
from otel_audit.delivery import delivery
from otel_audit.ids import record_id
from otel_audit.routes import match_near
from otel_audit.scope import Actor, Scope, events_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_audit.policy import Decision

__all__ = [
    "ANONYMOUS",
    "META_LOGIN",
    "META_REQUEST",
    "RequestScope",
    "described",
    "offer_places",
    "scope_of",
    "status_of",
]

#: The ancestor's places for a view's own data; always dicts, as its documented example assigns into them.
META_REQUEST: Final = "drf_request_audit_event"
META_LOGIN: Final = "drf_login_audit_event"

_ATTRIBUTE: Final = "_otel_audit_scope"
_PATH_ATTRIBUTES: Final = (keys.URL_PATH, keys.URL_FULL, keys.OLD_HTTP_TARGET, keys.OLD_HTTP_URL)
_DENIALS: Final = frozenset({401, 403})


def scope_of(request: Any) -> RequestScope | None:
    """Return the scope of a Django or DRF request, or None where no guard saw it."""
    found = getattr(getattr(request, "_request", request), _ATTRIBUTE, None)
    return found if isinstance(found, RequestScope) else None


def offer_places(request: HttpRequest) -> None:
    """Put the dicts there that a view writes its own data into, where no scope does so: it runs all the same."""
    for place in (META_REQUEST, META_LOGIN):
        request.META.setdefault(place, {})


def status_of(response: HttpResponseBase | None) -> int | None:
    """Return the status code; None where there is none, or a view left something else in its place."""
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


class RequestScope(Scope):
    """A request that is being served. See `otel_audit.scope.Scope`."""

    route = ""
    #: Of the route that was found, or would have been: what is masked in the path.
    path_route: tuple[str, Mapping[str, Any]] = ("", {})  # never written to
    _is_matched = False
    span: Any = None
    error: BaseException | None = None
    metadata_only = False
    left_out = ""  # which view of ours has answered
    acting_user: Any = None
    refused: Any = None  # the user whom an authentication backend has turned away
    locked_out = False  # a lock after too many failed attempts has refused the latest one
    tee: TeeStream | None = None
    tokens: list[Any] | None = None  # made or loaded on the way; see `otel_audit.integrations.tokens`
    _user_at_view: Any = None
    _actor: Actor | None = None
    groups: frozenset[str] | None = None  # of who acts, where a rule of the policy asks for them
    path_info: str | None = None

    def __init__(self, request: HttpRequest, decision: Decision) -> None:
        meta: dict[str, Any] = request.META
        self._meta: dict[str, Any] = meta
        self.started_ns = time.time_ns()
        self._clock = time.perf_counter_ns()
        self.record_id = record_id(self.started_ns)
        self.serve()
        self.request = request
        self.decision = decision
        self.method = request.method or ""
        self.path = request.path
        if "HTTP_SCRIPT_NAME" in meta:  # the prefix under which the site is mounted came as a header
            self.path_info = request.path_info
        self.scheme = request.scheme or ""
        self.query = meta.get("QUERY_STRING", "")
        self.user_agent = meta.get("HTTP_USER_AGENT", "")
        self.content_type = meta.get("CONTENT_TYPE", "")
        self.content_length = meta.get("CONTENT_LENGTH", "")
        self.remote_addr = meta.get("REMOTE_ADDR") or ""
        self.forwarded_for = meta.get("HTTP_X_FORWARDED_FOR")
        self.forwarded = meta.get("HTTP_FORWARDED")
        self.has_session_cookie = "HTTP_COOKIE" in meta and settings.SESSION_COOKIE_NAME in request.COOKIES
        self.extra: dict[str, Any] = {}
        self.own: dict[str, Any] = {}  # what we add to it, by keys of `otel_audit.attributes`
        self.logins: list[tuple[str, dict[str, Any]]] = []
        self.issued: list[Any] = []  # tokens made in the view; its answer says whether the client gets them
        self.at_exit: list[Callable[[RequestScope], None]] = []
        setattr(request, _ATTRIBUTE, self)
        meta[META_REQUEST] = {}
        meta[META_LOGIN] = {}
        if decision.request_body and hasattr(request, "_stream"):
            self.tee = TeeStream(request._stream, decision.limit)
            request._stream = self.tee  # type: ignore[assignment]  # it reads like the stream it wraps

    @property
    def meta(self) -> Mapping[str, Any]:
        """``request.META`` as it is now, or as it was at the door where the view left nothing of the kind."""
        meta, found = self._meta, getattr(self.request, "META", None)
        is_another = found is not meta and isinstance(found, Mapping) and META_REQUEST in found
        return found if is_another else meta  # type: ignore[return-value]  # narrowed by the line before

    # ── learned on the way ──────────────────────────────────────────────────────────────────────

    def server_span_started(self, span: Any) -> None:
        """Take the first SERVER span that starts inside this request."""
        if self.span is None:
            self.span = span

    def view_found(self, request: HttpRequest) -> None:
        """Note the route and who was there before the view ran."""
        match = request.resolver_match
        if match is not None:
            self.route = match.route or ""
            self._is_matched = True
            self._mask_route(self.route, match.kwargs)
        self._user_at_view = request.__dict__.get("user")

    def view_missed(self) -> None:
        """Mask the path of a request that never reached its view by the route that it would have had."""
        if not self._is_matched:
            self._mask_route(*match_near(self.request.path_info, self.urlconf))

    @property
    def urlconf(self) -> Any:
        """The URLs of the request, where a middleware has chosen others than the site's."""
        return getattr(self.request, "urlconf", None)

    def _mask_route(self, route: str, kwargs: Mapping[str, Any]) -> None:
        """Mask on the span, as it may be forwarded, what the route took from the path and is named like a secret."""
        self.path_route = route, kwargs
        redactor, span = conf.redactor, self.span
        if not redactor.secret_route(route, kwargs) or not getattr(span, "is_recording", bool)():
            return
        found = getattr(span, "attributes", None) or {}
        for key in _PATH_ATTRIBUTES:
            if isinstance(value := found.get(key), str):
                span.set_attribute(key, redactor.route(value, route, kwargs))

    def failed(self, error: BaseException | None) -> None:
        """Note an exception; the latest one is what the client's response came from."""
        if error is not None:
            self.error = error

    def actor(self) -> Actor | None:
        """Return who the view acts as, as far as it is known without asking a database."""
        return self._actor if self._actor is not None else described(self.known_user())

    # ── on the way out ──────────────────────────────────────────────────────────────────────────

    def unresolved_user(self) -> Any:
        """Return the session's user that nobody asked for yet, or None; looking at it costs the guard two queries."""
        if not self.has_session_cookie or self.known_user() is not None or not conf.resolve_actor:
            return None
        if not delivery().listening():
            return None  # a site's tests may count its queries
        return next((user for user in self._users() if _is_unresolved(user)), None)

    def settle_actor(self) -> None:
        """Fix who acted; from here on nothing the site does changes it.

        Without a session cookie, a request for whom nothing authenticated anybody is nobody's. With one, and with
        ``RESOLVE_ACTOR`` off, it is not known whose it is.
        """
        self._actor = described(self.known_user())
        if self._actor is None and not self.has_session_cookie:
            self._actor = ANONYMOUS

    def is_recorded(self, status: int | None, *, failed: bool = False) -> bool:
        """Whether the policy, or what happened, asks for a record.

        Sign-ins, denials and 5xx have one unless a rule leaves them out by name. A request to which a process, or
        another record inside it, links always has.
        """
        decision = self.decision
        if self._recorded_inside:
            return True
        if self.has_sign_in:
            return decision.record or "sign_ins" not in decision.also_excludes
        if failed and "errors" not in decision.also_excludes:
            return True
        if self.left_out and decision.rule is None:
            return False
        exception = "denials" if status in _DENIALS else "errors" if status is None or status >= 500 else None
        return decision.record or (exception is not None and exception not in decision.also_excludes)

    def paths(self) -> tuple[str, ...]:
        """Return the paths that the policy is asked about: a prefix that came as a header excludes nothing."""
        return (self.path,) if self.path_info is None else (self.path, self.path_info)

    @cached_property
    def has_sign_in(self) -> bool:
        """Whether a sign-in was recorded, by our integrations or as an event that plain OpenTelemetry code added.

        Asked when the request is finished.
        """
        if self.logins or keys.EVENT_LOGIN in self._recorded_inside:
            return True
        events = events_of(self.span)
        return bool(events) and any(event.name == keys.EVENT_LOGIN for event in events)

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the request came in, by the monotonic clock."""
        return (time.perf_counter_ns() - self._clock) / 1e6

    def user_before(self) -> Any:
        """Return who was there before the view ran, if that has been asked for; None where it is not known."""
        user = self._user_at_view
        return None if _is_unresolved(user) or not _is_user(user) else user

    def known_user(self) -> Any:
        """Return the user object that authentication resolved, or None where nobody asked."""
        for user in self._users():
            if user is not None and not _is_unresolved(user) and _is_user(user):
                return user
        return None

    def _users(self) -> Sequence[Any]:
        """Return what may be a user object, the one that counts most first; the last one a view cannot spoil."""
        found = self.request.__dict__
        if "user" not in found:
            return self.acting_user, found.get("_acached_user"), self._user_at_view
        user = found["user"]
        if user is None:  # REST framework without an UNAUTHENTICATED_USER: authentication has found nobody
            return (self.acting_user,)
        return self.acting_user, user, found.get("_acached_user"), self._user_at_view

    def view_data(self) -> Any:
        """Return what the view wrote into ``request.META`` and by ``annotate``."""
        written = self.meta.get(META_REQUEST)
        found = written.get("extra_informations") if isinstance(written, dict) else None
        if isinstance(found, dict) and not found:
            found = None
        if not self.extra:
            return found
        if isinstance(found, dict) or found is None:
            return {**(found or {}), **self.extra}
        return {"extra_informations": found, **self.extra}


ANONYMOUS: Final = Actor(None, keys.ACTOR_ANONYMOUS, keys.ACTOR_USER)


def _is_unresolved(user: Any) -> bool:
    return isinstance(user, LazyObject) and user._wrapped is empty


def _is_user(user: Any) -> bool:
    """Whether ``user`` can be asked who it is: a view may put anything in its place."""
    try:
        return hasattr(user, "is_authenticated")
    except BaseException:  # a foreign property may raise anything, also what ends a process
        return False


def described(user: Any) -> Actor | None:
    """Return the actor for a user object: key and name are copied, so they outlive the user. None: not known."""
    if user is None:
        return None
    try:
        if not user.is_authenticated:
            return ANONYMOUS
        key = getattr(user, conf.now().USER_PK_NAME, None)
        if key is None:
            key = getattr(user, "pk", None)
        name = str(user.get_username() if hasattr(user, "get_username") else user)
        return Actor(None if key is None else str(key), name, keys.ACTOR_USER)
    except BaseException:  # a foreign user object may raise anything: then it is not known who acts
        return None
