"""A sign-in endpoint at work: what the hooks beneath it find out until it has answered.

The endpoint alone knows how the attempt ended; what ran beneath it (``authenticate()``, a serializer, a token class)
knows who it was about and why it failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from otel_audit.edges import edge
from otel_audit.request_scope import scope_of

__all__ = ["Attempt", "Conclude", "current_attempt", "metadata_only", "opened", "serializer_made", "served"]

Conclude = Callable[[Any, "Attempt", int], None]


class Attempt:
    """What is known so far.

    Attributes:
        method: how somebody signs in here: ``"session"``, ``"simplejwt"``, ``"drf-token"``.
        user: the user object that was found, None as long as there is none.
        claims: those of a token that SimpleJWT has found signed by this site.
        serializer: the one that the view made.
        made: the tokens of SimpleJWT that got their id here.
        revoked: whether a token was put on the blacklist.
        error: what the view's exception handler was given.
        events: the facts of the events that other hooks have recorded meanwhile.
    """

    def __init__(self, method: str) -> None:
        self.method = method
        self.user: Any = None
        self.claims: Mapping[str, Any] | None = None
        self.serializer: Any = None
        self.made: list[Any] = []
        self.revoked = False
        self.error: BaseException | None = None
        self.events: list[dict[str, Any]] = []

    def found_user(self) -> Any:
        """Return the user that the endpoint found: as a hook saw it, else as the serializer holds it."""
        if self.user is not None:
            return self.user
        user = getattr(self.serializer, "user", None)
        if user is None:
            # Not the property, which raises before is_valid().
            validated = getattr(self.serializer, "_validated_data", None)
            user = validated.get("user") if isinstance(validated, Mapping) else None
        return user if hasattr(user, "is_authenticated") else None

    def has(self, action: str, outcome: str) -> bool:
        """Whether another hook has recorded such an event meanwhile."""
        return any(facts["action"] == action and facts["outcome"] == outcome for facts in self.events)


current_attempt: Final[ContextVar[Attempt | None]] = ContextVar("otel_audit_attempt", default=None)


@contextmanager
def opened(method: str) -> Iterator[Attempt]:
    """Make a new attempt the current one for the block."""
    attempt = Attempt(method)
    token = current_attempt.set(attempt)
    try:
        yield attempt
    finally:
        current_attempt.reset(token)


def served(method: str, conclude: Conclude) -> Callable[..., Any]:
    """Return what to wrap around the ``dispatch`` of a sign-in endpoint.

    Args:
        method: how somebody signs in there.
        conclude: called with the view, the attempt and the status of the response; 500 where an exception escaped.
    """

    def around(dispatch: Callable[..., Any], view: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        with edge("integrations.dispatch"):
            metadata_only(request)
        if current_attempt.get() is not None:  # one endpoint calls another: the outer one answers the client
            return dispatch(view, request, *args, **kwargs)
        try:
            with opened(method) as attempt:
                response = dispatch(view, request, *args, **kwargs)
        except Exception as error:
            attempt.error = error
            with edge("integrations.conclude"):
                conclude(view, attempt, 500)
            raise
        with edge("integrations.conclude"):
            conclude(view, attempt, response.status_code)
        return response

    return around


def serializer_made(get_serializer: Callable[..., Any], view: Any, *args: Any, **kwargs: Any) -> Any:
    """Wrap around ``get_serializer`` of a sign-in endpoint: note the one that it makes."""
    serializer = get_serializer(view, *args, **kwargs)
    if (attempt := current_attempt.get()) is not None:
        attempt.serializer = serializer
    return serializer


def metadata_only(request: Any) -> None:
    """Keep the bodies of a sign-in endpoint out of its request's record."""
    if (scope := scope_of(request)) is not None:
        scope.metadata_only = True
