"""What is stored of a request or response body: its text without secrets, or one line that describes it.

A body is never parsed to be redacted: `pairs` masks values where they stand, so that a cut, broken, deep or
duplicate-keyed document is stored as it came, without its secrets. What cannot be read as text (binary, compressed,
of another charset than it says) is described by type, size and SHA-256, never inflated.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from otel_audit.redaction import media, multipart
from otel_audit.redaction.engine import Engine
from otel_audit.redaction.queries import mask_query
from otel_audit.text import storable

__all__ = ["Body", "mask_body"]

#: A form that came without its content type.
_FORM: Final = re.compile(r"[\w.\-%\[\]]{1,200}=[^\s{\"<]*+\Z")

_CELLS: Final = re.compile(r"[,;\t|\"'\r]+")
#: A line of YAML with a key whose value stands in the lines below, further in.
_BLOCK: Final = re.compile(r"[ \t\-]*+([\"']?[\w.\-]{1,100}+[\"']?)\s*+:[ \t]*+(?:[|>][+\-\d]{0,2})?+\s*+\Z")
_MAX_PARTS: Final = 10_000
_CHANGES: Final = {
    (False, False): (),
    (True, False): ("redacted",),
    (False, True): ("cut",),
    (True, True): ("redacted", "cut"),
}


@dataclass(frozen=True, slots=True)
class Body:
    """What is stored of a body, and what was done to it: ``redacted``, ``cut``, ``escaped``, ``undecoded``."""

    text: str | None
    changed: tuple[str, ...] = ()


def mask_body(
    raw: bytes, content_type: str, engine: Engine, *, total_size: int, sha256: str | None, truncated: bool
) -> Body:
    """Return what is stored of a body; see `Redactor.body`."""
    if not raw and total_size == 0:
        return Body("")
    kind = media.media_type(content_type)
    if kind.kind == "multipart":
        body = _multipart(raw, kind.boundary, engine, truncated=truncated)
    else:
        body = _text(raw, kind, engine, truncated=truncated)
    return _description(kind.name, engine, total_size, sha256) if body is None else body


def _text(raw: bytes, kind: media.MediaType, engine: Engine, *, truncated: bool) -> Body | None:
    """Return a body that is text; None where it is not."""
    text = None if kind.kind == "binary" else media.decode(raw, kind.charset, truncated=truncated)
    if text is None or (kind.kind == "unknown" and "\0" in text):
        return None
    if kind.name == "text/csv" and any(map(engine.names.secret, _CELLS.split(text.partition("\n")[0]))):
        return None  # a column of secrets
    if kind.name.endswith("yaml"):
        text, written = _mask_blocks(text, engine), text
        masked = engine.mask(text)
        return _body(masked, redacted=masked != written, cut=truncated)
    if kind.kind == "form" or (kind.kind in ("unknown", "text") and _FORM.match(text) is not None):
        masked = mask_query(text, engine)
    else:
        masked = engine.mask(text, json=kind.kind == "json", markup=kind.kind == "markup")
    return _body(masked, redacted=masked != text, cut=truncated)


def _mask_blocks(text: str, engine: Engine) -> str:
    """Mask what stands below the secret keys of YAML."""
    kept: list[str] = []
    below: list[str] = []
    head, depth = "", -1
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip(" \t-"))
        if head and (indent > depth or not line.strip()):
            below.append(line.strip())
            continue
        if head:
            kept.append(f"{head}: {engine.marker.mark(chr(10).join(below))}")
            head, below = "", []
        key = _BLOCK.match(line)
        if key is not None and engine.names.secret(key[1]):
            head, depth = line[: key.end(1)], indent
        else:
            kept.append(line)
    if head:
        kept.append(f"{head}: {engine.marker.mark(chr(10).join(below))}")
    return "\n".join(kept)


def _multipart(raw: bytes, boundary: str, engine: Engine, *, truncated: bool) -> Body | None:
    """Return the parts as a JSON list, so that order and repeated names stay; None without a usable boundary."""
    parts = multipart.parts(raw, boundary, truncated=truncated)
    if parts is None:
        return None
    entries: list[dict[str, Any]] = []
    redacted = False
    for part in parts:
        if len(entries) == _MAX_PARTS:
            entries.append({"cut": f"more than {_MAX_PARTS} parts"})
            truncated = True
            break
        entry, changed = _entry(part, engine)
        entries.append(entry)
        redacted |= changed
    return _body(json.dumps(entries, ensure_ascii=False), redacted=redacted, cut=truncated)


def _body(text: str, *, redacted: bool, cut: bool) -> Body:
    if "\0" not in text:  # decoding is strict: there are no lone surrogates
        return Body(text, _CHANGES[redacted, cut])
    return Body(storable(text), (*_CHANGES[redacted, cut], "escaped"))


def _entry(part: multipart.Part, engine: Engine) -> tuple[dict[str, Any], bool]:
    """Return one part as it is stored, and whether a secret was in it."""
    plain: dict[str, Any] = {"name": part.names[0] if part.names else ""}
    if part.filename is not None:
        plain |= {"file": part.filename, "type": part.type, "size": len(part.data)}
    elif part.encoded:
        plain |= {"size": len(part.data)}
    else:
        plain |= {"value": part.data.decode("utf-8", "backslashreplace")}
    entry = {key: engine.mask(value) if isinstance(value, str) else value for key, value in plain.items()}
    if entry.get("value") and (not part.names or any(map(engine.names.secret, part.names))):
        entry["value"] = engine.marker.mark(str(plain["value"]))
    if not part.complete:
        return entry | {"cut": True}, entry != plain
    return entry, entry != plain


def _description(name: str, engine: Engine, size: int, sha256: str | None) -> Body:
    written = storable(engine.mask(name[:100])) or "no content type"
    digest = "" if sha256 is None else f", sha256 {sha256}"
    return Body(f"[{written}, {size} bytes{digest}]", ("undecoded",))
