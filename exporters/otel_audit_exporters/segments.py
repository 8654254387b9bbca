"""The spool's file format, and reading it back: what the writer, the drain and ``status`` agree on.

A segment is one append-only file, written by one process. Its name says when its stream began and in which
process, which number it has in the stream, and the fingerprint of its target database::

    20261124T100000123456-4242-9f2c61d07be35a18-0001-0123456789abcdef.segment

It is a row of frames: magic, version, kind, length, CRC-32, JSON text. The magic begins with a byte that
ASCII JSON cannot contain, so reading can pick up again behind damage. Layout and CRC of the header frame
never change, so that a version unknown here is told apart from damage, and left for the newer code. The
writer holds a ``flock`` on its newest segment: the lock, not the process id, proves that it is alive.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = [
    "CLOSE",
    "DONE",
    "FORMAT_VERSION",
    "HEADER",
    "HEAD_SIZE",
    "INTENT",
    "MAX_PAYLOAD",
    "OPEN",
    "RECORD",
    "SUFFIX",
    "Frame",
    "Name",
    "Segment",
    "frame",
    "is_torn",
    "segments",
]

FORMAT_VERSION: Final = 1
MAGIC: Final = b"\xf5OAF"
SUFFIX: Final = ".segment"
#: Kinds of frames.
HEADER: Final = b"H"
OPEN: Final = b"O"
RECORD: Final = b"R"
CLOSE: Final = b"C"
#: A request that begins, and requests that ended without a record in this stream; see `otel_audit_exporters.intents`.
INTENT: Final = b"I"
DONE: Final = b"D"
#: One record is never larger; a longer length is damage.
MAX_PAYLOAD: Final = 64 * 1024 * 1024

_HEAD: Final = struct.Struct(">4sBcII")
HEAD_SIZE: Final = _HEAD.size
_CHUNK: Final = 1024 * 1024
_NAME: Final = re.compile(r"(\d{8}T\d{12})-(\d+)-([0-9a-f]{16})-(\d{4,})-([0-9a-f]+)\.segment")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its kind, its JSON text and where it stands in the file (bytes)."""

    kind: bytes
    payload: bytes
    offset: int
    end: int


@dataclass(frozen=True, slots=True)
class Name:
    """What the name of a segment says."""

    started: str
    pid: int
    stream: str
    number: int
    fingerprint: str

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """Read a file name; None when it is no segment's."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        return cls(match[1], int(match[2]), match[3], int(match[4]), match[5])

    def __str__(self) -> str:
        return f"{self.started}-{self.pid}-{self.stream}-{self.number:04d}-{self.fingerprint}{SUFFIX}"


def frame(kind: bytes, payload: bytes) -> bytes:
    """Return the bytes of one frame."""
    length = len(payload)
    return _HEAD.pack(MAGIC, FORMAT_VERSION, kind, length, _checksum(kind, length, payload)) + payload


def segments(directory: Path) -> list[Path]:
    """Return the segments of ``directory``, oldest first, those of one stream in their order."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(SUFFIX)]
    except FileNotFoundError:
        return []
    return [directory / name for name in sorted(names) if _NAME.fullmatch(name)]


def is_torn(data: bytes) -> bool:
    """Whether ``data`` is the beginning of a frame, as an append leaves it that was cut off, or empty blocks."""
    if not data.strip(b"\0"):
        return True
    return isinstance(_frame_at(data, 0, 0), int) and not _is_json(data[HEAD_SIZE:])


def _is_json(text: bytes) -> bool:
    """Whether a text is whole: then its frame was not cut off, only the length in front of it is damaged."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class Segment:
    """One segment, open for reading. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        name = Name.parse(path.name)
        if name is None:
            raise ValueError(f"{path.name!r} is not the name of a segment.")
        self.path = path
        self.name = name
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def size(self) -> int:
        """Return the size in bytes now."""
        return os.fstat(self._fd).st_size

    def is_complete(self) -> bool:
        """Whether nothing is ever appended again: its writer has gone on to the next segment, or is dead."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return True

    def header(self) -> dict[str, Any] | None:
        """Return what the header frame says, ``{"format": n}`` alone for a newer format, None when it is damaged."""
        data = os.pread(self._fd, HEAD_SIZE, 0)
        if len(data) < HEAD_SIZE:
            return None
        magic, version, kind, length, checksum = _HEAD.unpack(data)
        if magic != MAGIC or kind != HEADER or length > _CHUNK:
            return None
        payload = os.pread(self._fd, length, HEAD_SIZE)
        if len(payload) < length or _checksum(kind, length, payload, version) != checksum:
            return None
        if version != FORMAT_VERSION:
            return {"format": version}
        header: dict[str, Any] = json.loads(payload)
        return header

    def frames(self, offset: int) -> Iterator[Frame]:
        """Yield the sound frames from ``offset`` on, and end at the end, at damage or at an incomplete frame."""
        data, base = b"", offset
        while True:
            position = offset - base
            found = _frame_at(data, position, base)
            if isinstance(found, Frame):
                yield found
                offset = found.end
                continue
            if found is None:
                return
            data = os.pread(self._fd, max(found, _CHUNK), offset)
            base = offset
            if len(data) < found:
                return

    def resume(self, offset: int) -> int | None:
        """Return where the next sound frame begins behind the damage at ``offset``, None where there is none."""
        data = self.read(offset, self.size())
        at = data.find(MAGIC, 1)
        while at >= 0:
            if isinstance(_frame_at(data, at, 0), Frame):
                return offset + at
            at = data.find(MAGIC, at + 1)
        return None

    def read(self, start: int, end: int) -> bytes:
        """Return the raw bytes from ``start`` to ``end``."""
        parts = []
        while start < end and (part := os.pread(self._fd, min(end - start, 1 << 30), start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def count(self, offset: int) -> int:
        """Count the records from ``offset`` on by their heads alone, damage skipped as far as it is cheap."""
        total, size = 0, self.size()
        while offset + HEAD_SIZE <= size:
            magic, _, kind, length, _ = _HEAD.unpack(os.pread(self._fd, HEAD_SIZE, offset))
            if magic != MAGIC or length > MAX_PAYLOAD:
                following = self.resume(offset)
                if following is None:
                    break
                offset = following
                continue
            offset += HEAD_SIZE + length
            total += kind == RECORD and offset <= size
        return total


def _frame_at(data: bytes, at: int, base: int) -> Frame | int | None:
    """Return the frame at ``at``, the number of bytes it needs when ``data`` ends before, or None for damage."""
    if len(data) - at < HEAD_SIZE:
        return HEAD_SIZE
    magic, version, kind, length, checksum = _HEAD.unpack_from(data, at)
    if magic != MAGIC or version != FORMAT_VERSION or length > MAX_PAYLOAD:
        return None
    start = at + HEAD_SIZE
    if len(data) - start < length:
        return HEAD_SIZE + int(length)
    payload = data[start : start + length]
    if _checksum(kind, length, payload) != checksum:
        return None
    return Frame(kind, payload, base + at, base + start + length)


def _checksum(kind: bytes, length: int, payload: bytes, version: int = FORMAT_VERSION) -> int:
    return zlib.crc32(payload, (length << 3 ^ kind[0] << 24 ^ version) & 0xFFFFFFFF)
