"""The redactor: one object per site, made once, used by every thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from otel_audit.redaction.callbacks import secret_in_route
from otel_audit.redaction.documents import Copier
from otel_audit.redaction.engine import Engine
from otel_audit.redaction.marks import Marker
from otel_audit.redaction.names import Names
from otel_audit.redaction.payloads import Body, mask_body
from otel_audit.redaction.queries import mask_query
from otel_audit.text import storable

__all__ = ["Redactor"]


class Redactor:
    """Masks secrets; immutable and thread-safe.

    Args:
        extra_keys: names of secrets beside the built-in ones; case, dashes and underscores do not matter.
        marker: makes what stands in the place of a secret.
        own: the site's own redaction, called with every text when the built-in one has masked it; never raises.
    """

    def __init__(
        self,
        extra_keys: Iterable[str] = (),
        marker: Marker | None = None,
        own: Callable[[str], str] | None = None,
    ) -> None:
        self.marks = (marker or Marker()).all
        self._own = own
        self._names = Names(extra_keys)
        self._engine = Engine(self._names, marker or Marker())

    def secret_key(self, name: str) -> bool:
        """Whether ``name`` is the name of a secret."""
        return self._names.secret(name)

    def secret_route(self, route: str, kwargs: Mapping[str, Any]) -> bool:
        """Whether a parameter that ``route`` takes from the path is a secret."""
        return bool(kwargs) and _secret_among(self, route, tuple(kwargs))

    def secret_parameter(self, name: str, route: str) -> bool:
        """Whether the parameter ``name`` of ``route`` is a secret."""
        return self._names.secret(name) or secret_in_route(name, route)

    def text(self, value: str) -> str:
        """Return ``value`` with every secret in it masked; the same object when there is none."""
        masked = self._engine.mask(value)
        return masked if self._own is None or not masked else self._own(masked)

    def query(self, raw: str, path: str = "") -> str:
        """Return a raw query string or form with its secrets masked, everything else byte for byte.

        Args:
            raw: the query string.
            path: where it was sent to, as ``code`` and ``state`` are secrets on the way back from an OAuth provider.
        """
        masked = mask_query(raw, self._engine, path)
        return masked if self._own is None or not masked else self._own(masked)

    def value(self, obj: object) -> Any:
        """Return a JSON-able copy of ``obj`` without its secrets."""
        return Copier(self._engine, self.text).copy(obj)

    def headers(self, mapping: Mapping[str, str]) -> dict[str, str]:
        """Return a copy of headers with the secret ones masked."""
        return {
            name: self._engine.marker.mark(value) if self._names.secret(name) else self.text(value)
            for name, value in mapping.items()
        }

    def route(self, path: str, route: str, kwargs: Mapping[str, Any]) -> str:
        """Return ``path`` with the values of route parameters masked that are named like a secret.

        Args:
            path: the path of the request.
            route: the pattern that it matched, such as ``reset/<uidb64>/<token>/``.
            kwargs: the parameters that the route took from the path.
        """
        for name, value in kwargs.items():
            if self.secret_parameter(name, route) and (written := str(value)):
                path = _mask_parameter(path, route, name, written, self._engine.marker.mark(written))
        return self.text(path)

    def body(self, raw: bytes, content_type: str, *, total_size: int, sha256: str | None, truncated: bool) -> Body:
        """Return what is stored of a body.

        Args:
            raw: its first bytes.
            content_type: the Content-Type header.
            total_size: how many bytes there were in all.
            sha256: of all of them, in hex; None where nobody hashed them.
            truncated: whether ``raw`` is less than all.
        """
        body = mask_body(raw, content_type, self._engine, total_size=total_size, sha256=sha256, truncated=truncated)
        if self._own is None or not body.text:
            return body
        text = self._own(body.text)
        if text == body.text:
            return body
        return Body(storable(text), tuple(dict.fromkeys(("redacted", *body.changed))))


def _mask_parameter(path: str, route: str, name: str, value: str, mark: str) -> str:
    """Put ``mark`` in the place of ``value`` in ``path``: where it is a whole segment, else wherever it stands.

    A converter may have changed what stood in the path (``0042`` became 42): then the route's segment is masked.
    """
    masked = path
    for written in dict.fromkeys((value, quote(value), quote(value, safe=""))):
        whole = re.compile(rf"(?<=/){re.escape(written)}(?=/|\Z)", re.IGNORECASE)
        masked = whole.sub(mark, masked)
    if masked == path:
        parts, segments = path.split("/"), route.split("/")
        for place in range(1, min(len(parts), len(segments)) + 1):
            if re.fullmatch(rf"<(?:\w+:)?{re.escape(name)}>", segments[-place]):
                parts[-place] = mark
        masked = "/".join(parts)
    return path.replace(value, mark) if masked == path else masked


@lru_cache(maxsize=1024)
def _secret_among(redactor: Redactor, route: str, names: tuple[str, ...]) -> bool:
    return any(redactor.secret_parameter(name, route) for name in names)
