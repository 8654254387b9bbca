"""The redactor: one object per site, made once, used by every thread."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from otel_audit.redaction.documents import Copier
from otel_audit.redaction.engine import Engine
from otel_audit.redaction.names import Names
from otel_audit.redaction.patterns import MASK
from otel_audit.redaction.payloads import Body, mask_body
from otel_audit.redaction.queries import mask_query

__all__ = ["Redactor"]


class Redactor:
    """Masks secrets; immutable and thread-safe.

    Args:
        extra_keys: names of secrets beside the built-in ones; case, dashes and underscores do not matter.
    """

    def __init__(self, extra_keys: Iterable[str] = ()) -> None:
        self._names = Names(extra_keys)
        self._engine = Engine(self._names)

    def secret_key(self, name: str) -> bool:
        """Whether ``name`` is the name of a secret."""
        return self._names.secret(name)

    def text(self, value: str) -> str:
        """Return ``value`` with every secret in it masked; the same object when there is none."""
        return self._engine.mask(value)

    def query(self, raw: str) -> str:
        """Return a raw query string or form with its secrets masked, everything else byte for byte."""
        return mask_query(raw, self._engine)

    def value(self, obj: object) -> Any:
        """Return a JSON-able copy of ``obj`` without its secrets."""
        return Copier(self._engine).copy(obj)

    def headers(self, mapping: Mapping[str, str]) -> dict[str, str]:
        """Return a copy of headers with the secret ones masked."""
        return {name: MASK if self._names.secret(name) else self.text(value) for name, value in mapping.items()}

    def route(self, path: str, route: str, kwargs: Mapping[str, Any]) -> str:
        """Return ``path`` with the values of route parameters masked that are named like a secret.

        Args:
            path: the path of the request.
            route: the pattern that it matched, such as ``reset/<uidb64>/<token>/``.
            kwargs: the parameters that the route took from the path.
        """
        for name, value in kwargs.items():
            if self._names.secret(name) and (written := str(value)):
                path = _mask_parameter(path, route, name, written)
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
        return mask_body(raw, content_type, self._engine, total_size=total_size, sha256=sha256, truncated=truncated)


def _mask_parameter(path: str, route: str, name: str, value: str) -> str:
    """Mask ``value`` in ``path``: where it is a whole segment, else wherever it stands.

    A converter may have changed what stood in the path (``0042`` became 42): then the route's segment is masked.
    """
    masked = path
    for written in dict.fromkeys((value, quote(value), quote(value, safe=""))):
        whole = re.compile(rf"(?<=/){re.escape(written)}(?=/|\Z)", re.IGNORECASE)
        masked = whole.sub(MASK, masked)
    if masked == path:
        parts, segments = path.split("/"), route.split("/")
        for place in range(1, min(len(parts), len(segments)) + 1):
            if re.fullmatch(rf"<(?:\w+:)?{re.escape(name)}>", segments[-place]):
                parts[-place] = MASK
        masked = "/".join(parts)
    return path.replace(value, MASK) if masked == path else masked
