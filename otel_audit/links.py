"""Masks the secrets in addresses of this site, by the routes that they lead to.

A link that resets a password or opens an invitation has its secret in its path, and nothing but the name of the
route's parameter says so. It is masked whether or not the request got as far as the view: redirects to ``https`` or to
the path with its slash, a refusal of another middleware, a bad host. And it stands in the query string of the sign-in
page to which ``login_required`` sends whoever follows it: ``/sign-in/?next=/invitation/…/``.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from otel_audit.redaction import Redactor
from otel_audit.routes import match_near

__all__ = ["mask_page", "mask_query"]

#: A value that may be the address of a page.
_LINK: Final = re.compile(r"=(?:/|%(?:25)?2f|https?(?::|%(?:25)?3a))", re.IGNORECASE)
_SEGMENT: Final = re.compile(r"[^&;]++")
_SAFE: Final = "[]/:?=,@%"


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
    route, kwargs = match_near(path, urlconf)
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
    if _LINK.search(query) is not None:
        query = _SEGMENT.sub(lambda match: _segment(match[0], redactor, urlconf), query)
    return redactor.query(query, path)


def _segment(segment: str, redactor: Redactor, urlconf: Any) -> str:
    if _LINK.search(segment) is None:
        return segment
    key, _, value = segment.partition("=")
    link = unquote_plus(value)
    masked = mask_page(link, redactor, urlconf)
    return segment if masked == link else f"{key}={quote(masked, safe=_SAFE)}"
