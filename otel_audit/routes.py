"""Which view a request will reach, asked before Django does.

An intent is stored at the door, and what its path says must be masked by the names of the route's parameters there
already: a link that resets a password has its secret in the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import Resolver404, ResolverMatch, resolve
from django.utils.translation import get_language_from_path, override

from otel_audit.edges import edge

__all__ = ["is_health_view", "match_ahead"]


def match_ahead(request: HttpRequest) -> tuple[str, Mapping[str, Any]]:
    """Return the route that the path will match, and its parameters; nothing where that cannot be said."""
    match = _match(request)
    return ("", {}) if match is None else (match.route or "", match.kwargs)


def is_health_view(request: HttpRequest) -> bool:
    """Whether the request is for `otel_audit.health.health`, under whatever path the site gave it."""
    from otel_audit.health import health

    match = _match(request)
    return match is not None and match.func is health


def _match(request: HttpRequest) -> ResolverMatch | None:
    with edge("routes.match"):  # converters are the site's
        urlconf = getattr(request, "urlconf", None)
        try:
            return resolve(request.path_info, urlconf)
        except Resolver404:
            language = get_language_from_path(request.path_info) if settings.USE_I18N else None
        if language is not None:  # no middleware has taken the language from the path yet
            with override(language):
                try:
                    return resolve(request.path_info, urlconf)
                except Resolver404:
                    return None
    return None
