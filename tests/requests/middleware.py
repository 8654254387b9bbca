"""Another middleware of the site, which fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class MiddlewareError(Exception):
    """What it raises."""


def crash_on_request(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a middleware that fails before the view."""

    def middleware(request: Any) -> Any:
        raise MiddlewareError("on the way in")

    return middleware


def crash_on_response(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a middleware that fails after the view."""

    def middleware(request: Any) -> Any:
        get_response(request)
        raise MiddlewareError("on the way out")

    return middleware
