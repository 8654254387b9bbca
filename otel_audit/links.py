"""Masks the secrets in addresses of this site, by the routes that they lead to.

A link that resets a password or opens an invitation has its secret in its path, and nothing but the name of the
route's parameter says so. It is masked whether or not the request got as far as the view: redirects to ``https`` or to
the path with its slash, a refusal of another middleware, a bad host. And it stands in the query string of the sign-in
page to which ``login_required`` sends whoever follows it: ``/sign-in/?next=/invitation/…/``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from django.conf import settings
from django.urls import get_script_prefix

from otel_audit import attributes as keys
from otel_audit.redaction import MASK, Redactor
from otel_audit.routes import match_near

__all__ = ["LINK_HEADERS", "URLS", "mask_addresses", "mask_page", "mask_query"]

#: Attributes that hold the address of a request, with its query string.
URLS: Final = frozenset({keys.URL_FULL, keys.OLD_HTTP_URL, keys.OLD_HTTP_TARGET})
#: Where OpenTelemetry's instrumentation puts headers, when a site asks for them, with links to reset a password.
LINK_HEADERS: Final = frozenset(
    {"http.request.header.referer", "http.response.header.location", "http.response.header.content_location"}
)
_ADDRESSES: Final = (keys.URL_PATH, *sorted(URLS | LINK_HEADERS))
#: A value that may be the address of a page.
_LINK: Final = re.compile(r"=(?:/|%(?:25)?2f|https?(?::|%(?:25)?3a))", re.IGNORECASE)
_SEGMENT: Final = re.compile(r"[^&;]++")
_SAFE: Final = "[]/:?=,@%"
#: So many links of a query string are looked up, each of which takes the time of some routings; of those beyond nothing
#: but the name is kept.
MAX_LINKS: Final = 20


def mask_page(address: str, redactor: Redactor, urlconf: Any = None) -> str:
    """Return an address, or a path alone, with the parameters of its route masked that are secrets.

    Args:
        address: whatever it is, this site's or not; its path may be percent-encoded.
        redactor: masks them.
        urlconf: the site's URLs, where they are others than those of ``ROOT_URLCONF``.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    path = unquote(parts.path)
    route, kwargs = match_near(_below_prefix(path), urlconf)
    if not redactor.secret_route(route, kwargs):
        return address
    return parts._replace(path=redactor.route(path, route, kwargs)).geturl()


def mask_query(query: str, redactor: Redactor, path: str = "", urlconf: Any = None) -> str:
    """Return a raw query string without its secrets, those in links to this site included.

    Args:
        query: the query string.
        redactor: masks them.
        path: where it was sent to; empty where that is not known.
        urlconf: as above.
    """
    return redactor.query(_Links(redactor, urlconf).mask(query), path)


def mask_addresses(attributes: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """Return the attributes of a request's span, its address and links of its headers masked by their routes."""
    masked = dict(attributes)
    for key in _ADDRESSES:
        if key in masked:
            masked[key] = _masked_address(masked[key], redactor)
    if isinstance(query := masked.get(keys.URL_QUERY), str):
        masked[keys.URL_QUERY] = mask_query(query, redactor)
    return masked


class _Links:
    """Masks the links in one query string, and those in the query strings of these links."""

    def __init__(self, redactor: Redactor, urlconf: Any) -> None:
        self._redactor = redactor
        self._urlconf = urlconf
        self._left = MAX_LINKS

    def mask(self, query: str) -> str:
        """Return ``query`` with its links masked."""
        return query if _LINK.search(query) is None else _SEGMENT.sub(self._segment, query)

    def _segment(self, match: re.Match[str]) -> str:
        segment = match[0]
        if _LINK.search(segment) is None:
            return segment
        key, _, value = segment.partition("=")
        if not self._left:
            return f"{key}={MASK}"
        self._left -= 1
        link = unquote_plus(value)
        page, mark, query = link.partition("?")
        masked = mask_page(page, self._redactor, self._urlconf) + mark + self.mask(query)
        return segment if masked == link else f"{key}={quote(masked, safe=_SAFE)}"


def _masked_address(address: Any, redactor: Redactor) -> Any:
    if isinstance(address, tuple):  # headers may come more than once
        return tuple(_masked_address(one, redactor) for one in address)
    if not isinstance(address, str):
        return address
    page, mark, query = address.partition("?")
    return mask_page(page, redactor) + mark + mask_query(query, redactor, page)


def _below_prefix(path: str) -> str:
    """Return ``path`` without the prefix under which the site is mounted, which no route has."""
    prefix = get_script_prefix()
    if prefix == "/":  # that of the request; a thread of ours serves none
        prefix = f"{(settings.FORCE_SCRIPT_NAME or '').rstrip('/')}/"
    return path[len(prefix) - 1 :] if path.startswith(prefix) else path
