"""The redactor: one object per site, made once, used by every thread."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, unquote_plus

from otel_audit.redaction import multipart
from otel_audit.redaction.documents import Copier
from otel_audit.redaction.names import Names
from otel_audit.redaction.pairs import PairMasker, fold
from otel_audit.redaction.patterns import MASK, mask_cards, mask_shapes
from otel_audit.redaction.payloads import Body, MediaType, decode, media_type
from otel_audit.text import storable

__all__ = ["Redactor"]

_ESCAPED: Final = re.compile(r"(?<!\\)(\\+)u00([2-7][0-9a-fA-F])")
_SEGMENT: Final = re.compile(r"[^&;]++")


class Redactor:
    """Masks secrets; immutable and thread-safe.

    Args:
        extra_keys: names of secrets beside the built-in ones; case, dashes and underscores do not matter.
    """

    def __init__(self, extra_keys: Iterable[str] = ()) -> None:
        self._names = Names(extra_keys)
        self._pairs = PairMasker(self._names)

    def secret_key(self, name: str) -> bool:
        """Whether ``name`` is the name of a secret."""
        return self._names.secret(name)

    def text(self, value: str) -> str:
        """Return ``value`` with every secret in it masked; the same object when there is none."""
        return self._mask(value)

    def query(self, raw: str) -> str:
        """Return a raw query string or form with its secrets masked, everything else byte for byte."""
        return _SEGMENT.sub(self._mask_segment, raw)

    def value(self, obj: object) -> Any:
        """Return a JSON-able copy of ``obj`` without its secrets."""
        return Copier(self._names, self._mask).copy(obj)

    def headers(self, mapping: Mapping[str, str]) -> dict[str, str]:
        """Return a copy of headers with the secret ones masked."""
        return {
            name: MASK if self._names.secret(name) else self._mask(value) for name, value in mapping.items()
        }

    def route(self, path: str, route: str, kwargs: Mapping[str, Any]) -> str:
        """Return ``path`` with the values of route parameters masked that are named like a secret.

        Args:
            path: the path of the request.
            route: the pattern that it matched; only routes with parameters can have secret ones.
            kwargs: the parameters that the route took from the path.
        """
        if route or kwargs:
            for name, value in kwargs.items():
                if self._names.secret(name) and (text := str(value)):
                    path = _mask_parameter(path, text)
        return self._mask(path)

    def body(
        self, raw: bytes, content_type: str, *, total_size: int, sha256: str | None, truncated: bool
    ) -> Body:
        """Return what is stored of a body.

        Args:
            raw: its first bytes.
            content_type: the Content-Type header.
            total_size: how many bytes there were in all.
            sha256: of all of them, in hex; None where nobody hashed them.
            truncated: whether ``raw`` is less than all.
        """
        kind = media_type(content_type)
        text = masked = None
        if kind.kind == "multipart":
            masked = self._multipart(raw, kind, truncated=truncated)
        elif kind.kind != "binary":
            text = decode(raw, kind.charset, truncated=truncated)
            if text is not None and not (kind.kind == "unknown" and "\0" in text):
                masked = self._mask_body(text, kind.kind)
        if masked is None:
            return Body(storable(self._describe(kind, total_size, sha256)), ("undecoded",))
        changed = []
        if masked != text and (text is not None or MASK in masked):
            changed.append("redacted")
        if truncated:
            changed.append("cut")
        stored = storable(masked)
        if stored is not masked:
            changed.append("escaped")
        return Body(stored, tuple(changed))

    def _mask(self, text: str, *, json: bool = False, markup: bool = False) -> str:
        lower = fold(text)
        masked = self._pairs.mask(text, lower, markup=markup)
        masked = mask_shapes(masked, lower)
        masked = mask_cards(masked, json=json)
        if "\\u00" in lower:
            plain = _ESCAPED.sub(_unescape, text)
            if plain != text and (found := self._mask(plain, json=json, markup=markup)) != plain:
                return found
        return masked

    def _mask_body(self, text: str, kind: str) -> str:
        if kind == "form":
            return self.query(text)
        return self._mask(text, json=kind == "json", markup=kind == "markup")

    def _mask_segment(self, match: re.Match[str]) -> str:
        segment = match[0]
        key, equals, value = segment.partition("=")
        if equals and self._names.secret(unquote_plus(key)):
            return f"{key}={MASK}" if value else segment
        decoded = unquote_plus(segment)
        for _ in range(3):
            masked = self._mask(decoded)
            if masked != decoded:
                return masked if decoded == segment else quote(masked, safe="[]/:?=,@ ").replace(" ", "+")
            if "%" not in decoded:
                break
            decoded = unquote(decoded)
        return segment

    def _multipart(self, raw: bytes, kind: MediaType, *, truncated: bool) -> str | None:
        found = multipart.parts(raw, kind.boundary, truncated=truncated)
        if found is None:
            return None
        return json.dumps([self._part(part) for part in found], ensure_ascii=False)

    def _part(self, part: multipart.Part) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": self._mask(part.names[0]) if part.names else ""}
        if not part.complete:
            entry["cut"] = True
        if part.filename is not None:
            size = len(part.data)
            return entry | {"file": self._mask(part.filename), "type": self._mask(part.type), "size": size}
        if part.encoded:
            return entry | {"size": len(part.data)}
        if not part.names or any(self._names.secret(name) for name in part.names):
            return entry | {"value": MASK}
        return entry | {"value": self._mask(part.data.decode("utf-8", "backslashreplace"))}

    def _describe(self, kind: MediaType, size: int, sha256: str | None) -> str:
        name = self._mask(kind.name[:100]) or "no content type"
        return f"[{name}, {size} bytes{'' if sha256 is None else f', sha256 {sha256}'}]"


def _mask_parameter(path: str, value: str) -> str:
    """Mask ``value`` in ``path``: where it is a whole segment, else wherever it stands."""
    for written in dict.fromkeys((value, quote(value), quote(value, safe=""))):
        whole = re.compile(rf"(?<=/){re.escape(written)}(?=/|\Z)")
        masked = whole.sub(MASK, path)
        if masked == path:
            masked = path.replace(written, MASK)
        path = masked
    return path


def _unescape(match: re.Match[str]) -> str:
    """Write an escaped ASCII character of JSON, or of JSON in a JSON string, plainly."""
    run, character = len(match[1]), chr(int(match[2], 16))
    if character == '"':
        return "\\" * (2 * run - 1) + character
    if character == "\\":
        return "\\" * (2 * run)
    return character if run & (run - 1) == 0 else "\\" * (run - 1) + character
