"""Where records go that cannot be stored as they are: kept with the reason, never thrown away, tried again on request.

One JSON line each in ``quarantine.jsonl`` of the spool directory. The place in the segment identifies an
entry, so that one which is written again after a crash counts once.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from otel_audit_exporters.accounts import locked, replace_file

__all__ = ["QUARANTINE", "Entry", "add", "entries", "retry"]

QUARANTINE: Final = "quarantine.jsonl"
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """One quarantined piece of a segment: a record's JSON text, or for damage the bytes of the file from ``offset`` on.

    ``fingerprint`` names the database it was meant for.
    """

    reason: str
    error: str
    segment: str
    offset: int
    sink: str
    fingerprint: str
    data: bytes


def add(directory: Path, found: Sequence[Entry]) -> None:
    """Append ``found`` to the quarantine of ``directory``; on the disk when this returns."""
    if not found:
        return
    text = b"".join(_encode(entry) for entry in found)
    with locked(directory):
        fd = os.open(directory / QUARANTINE, _FLAGS, 0o600)
        try:
            if (size := os.fstat(fd).st_size) and not _ends_a_line(directory / QUARANTINE, size):
                text = b"\n" + text  # an append was cut off here: its line is skipped, the entry comes again
            while text:
                text = text[os.write(fd, text) :]
            os.fsync(fd)
        finally:
            os.close(fd)


def entries(directory: Path) -> list[Entry]:
    """Return what is in quarantine, each piece once, oldest first."""
    found: dict[tuple[str, int, str], Entry] = {}
    for line in _lines(directory):
        entry = _decode(line)
        if entry is not None:
            found.setdefault((entry.segment, entry.offset, entry.sink), entry)
    return list(found.values())


def retry(directory: Path, fingerprint: str, deliver: Callable[[Sequence[bytes]], Any], sink: str = "database") -> int:
    """Try the quarantined records of one database again; return how many were stored and left the quarantine.

    Damage stays, as do records that are refused again.
    """
    tried = [
        entry
        for entry in entries(directory)
        if entry.fingerprint == fingerprint and entry.sink == sink and entry.data.startswith(b"{")
    ]
    stored = set()
    for entry in tried:
        if not deliver([entry.data]).rejections:
            stored.add((entry.segment, entry.offset, entry.sink))
    if stored:
        with locked(directory) as accounts:
            kept = [e for e in entries(directory) if (e.segment, e.offset, e.sink) not in stored]
            accounts.released(len(stored))
            replace_file(directory / QUARANTINE, b"".join(_encode(entry) for entry in kept))
    return len(stored)


def _encode(entry: Entry) -> bytes:
    said: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="microseconds"), **asdict(entry)}
    data = said.pop("data")
    if data.startswith(b"{") and data.isascii():
        said["record"] = data.decode("ascii")
    else:
        said["base64"] = base64.b64encode(data).decode("ascii")
    return json.dumps(said).encode("ascii") + b"\n"


def _decode(line: bytes) -> Entry | None:
    try:
        said = json.loads(line)
        data = said["record"].encode("ascii") if "record" in said else base64.b64decode(said["base64"])
        names = ("reason", "error", "segment", "offset", "sink", "fingerprint")
        return Entry(**{name: said[name] for name in names}, data=data)
    except (ValueError, KeyError, TypeError):
        return None  # a line that was cut off by a crash: what it should have held comes again


def _lines(directory: Path) -> Iterator[bytes]:
    try:
        with (directory / QUARANTINE).open("rb") as file:
            yield from file
    except FileNotFoundError:
        return


def _ends_a_line(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"
