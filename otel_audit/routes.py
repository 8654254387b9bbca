"""Which view a request will reach, asked before Django does.

An intent is stored at the door, and what its path says must be masked by the names of the route's parameters there
already: a link that resets a password has its secret in the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest
from django.urls import Resolver404, ResolverMatch, resolve
from django.utils.translation import get_language_from_path, override

from otel_audit.edges import edge

__all__ = ["is_health_view", "match_ahead", "match_near"]

_MAX_LENGTH: Final = 2048  # characters of a path


def match_ahead(request: HttpRequest) -> tuple[str, Mapping[str, Any]]:
    """Return the route that the path will match, and its parameters; nothing where that cannot be said."""
    match = _match_request(request)
    return ("", {}) if match is None else (match.route or "", match.kwargs)


def match_near(path: str, urlconf: Any = None) -> tuple[str, Mapping[str, Any]]:
    """Return the route, with its parameters, that ``path`` matches, alone or with a slash, or that is its parent's."""
    if not path or len(path) > _MAX_LENGTH or not (urlconf or getattr(settings, "ROOT_URLCONF", None)):
        return "", {}
    for near in (path, f"{path}/", path.rstrip("/").rpartition("/")[0] + "/"):
        if (match := _match(near, urlconf)) is not None:
            return match.route or "", match.kwargs
    return "", {}


def is_health_view(request: HttpRequest) -> bool:
    """Whether the request is for `otel_audit.health.health`, under whatever path the site gave it."""
    from otel_audit.health import health

    match = _match_request(request)
    return match is not None and match.func is health


def _match_request(request: HttpRequest) -> ResolverMatch | None:
    return _match(request.path_info, getattr(request, "urlconf", None))


def _match(path: str, urlconf: Any) -> ResolverMatch | None:
    with edge("routes.match"):  # converters are the site's
        try:
            return resolve(path, urlconf)
        except Resolver404:
            language = get_language_from_path(path) if settings.USE_I18N else None
        if language is not None:  # no middleware has taken the language from the path yet
            with override(language):
                try:
                    return resolve(path, urlconf)
                except Resolver404:
                    return None
    return None
