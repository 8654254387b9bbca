"""Takes a multipart/form-data body apart as tolerantly as Django does, and keeps what an audit row can hold.

Fields keep their value, files become name, type and size. Each part ends as one entry of a JSON list, so that order
and repeated names stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Part", "parts"]

_MAX_HEADERS: Final = 4096  # bytes of one part
_BOUNDARY: Final = re.compile(r"[ -~]{0,200}[!-~]\Z")
_NAME: Final = re.compile(r'[;\s](name|filename)(\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^\s;"]*+))', re.IGNORECASE)
_ENCODED: Final = re.compile(r"^content-transfer-encoding\s*:\s*(?!7bit|8bit|binary)\S", re.IGNORECASE | re.MULTILINE)
_TYPE: Final = re.compile(r"^content-type\s*:\s*([^\r\n]{0,200})", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """One part: every name its headers give it (they may disagree), its file name and type, and its bytes."""

    names: tuple[str, ...]
    filename: str | None
    type: str
    data: bytes
    complete: bool
    encoded: bool


def parts(raw: bytes, boundary: str, *, truncated: bool) -> Iterator[Part] | None:
    """Yield the parts of ``raw``; None where the boundary is none."""
    if _BOUNDARY.match(boundary) is None:
        return None
    return _parts(raw, b"--" + boundary.encode("ascii"), truncated)


def _parts(raw: bytes, delimiter: bytes, truncated: bool) -> Iterator[Part]:
    position = raw.find(delimiter)
    while position >= 0:
        begin = position + len(delimiter)
        if raw.startswith(b"--", begin):
            return
        position = raw.find(delimiter, begin)
        end = len(raw) if position < 0 else position
        yield _part(raw[begin:end], complete=position >= 0 or not truncated)


def _part(section: bytes, *, complete: bool) -> Part:
    section = section.removeprefix(b"\r\n").removeprefix(b"\n")
    head, _, data = section.partition(b"\r\n\r\n")
    if complete:
        data = data.removesuffix(b"\n").removesuffix(b"\r")
    headers = head[:_MAX_HEADERS].decode("utf-8", "backslashreplace")
    names: list[str] = []
    filename: str | None = None
    for match in _NAME.finditer(headers):
        value = match[3] if match[3] is not None else match[4]
        if match[1].lower() == "name":
            names.append(value)
        else:
            filename = value
    kind = _TYPE.search(headers)
    return Part(
        tuple(names),
        filename,
        "" if kind is None else kind[1].strip(),
        data,
        complete,
        _ENCODED.search(headers) is not None,
    )
