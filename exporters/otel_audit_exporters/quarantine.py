"""Where records go that cannot be stored as they are: kept with the reason, never thrown away, tried again on request.

One JSON line each in ``quarantine-<fingerprint>.jsonl`` of the spool directory. The place in the segment identifies an
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

from otel_audit_exporters.accounts import DATABASE, Accounts, locked, replace_file
from otel_audit_exporters.writer import Outcome

__all__ = ["Entry", "add", "entries", "put_aside", "retry"]

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """One quarantined piece of a segment.

    ``data`` is a record's JSON text, or for damage the bytes of the file from ``offset`` on.
    """

    reason: str
    error: str
    segment: str
    offset: int
    sink: str
    data: bytes

    @property
    def place(self) -> tuple[str, int, str]:
        """What identifies the entry."""
        return self.segment, self.offset, self.sink

    @property
    def is_record(self) -> bool:
        """Whether it is a whole record, which can be tried again, and no damage."""
        return self.data.startswith(b"{") and self.data.isascii()


def add(directory: Path, fingerprint: str, found: Sequence[Entry]) -> None:
    """Append ``found`` to the quarantine; on the disk when this returns. The caller counts it."""
    if found:
        with locked(directory, fingerprint):
            _append(_path(directory, fingerprint), found)


def put_aside(directory: Path, fingerprint: str, payload: bytes, reason: str, error: str) -> None:
    """Put a record into quarantine that was in no segment, and count it."""
    entry = Entry(reason, error, f"none-{os.urandom(8).hex()}", 0, DATABASE, payload)
    with locked(directory, fingerprint) as accounts:
        _append(_path(directory, fingerprint), [entry])
        accounts.quarantined += 1


def entries(directory: Path, fingerprint: str) -> list[Entry]:
    """Return what is in quarantine, each piece once, oldest first."""
    found: dict[tuple[str, int, str], Entry] = {}
    for _, entry in _lines(_path(directory, fingerprint)):
        found.setdefault(entry.place, entry)
    return list(found.values())


def retry(
    directory: Path, fingerprint: str, deliver: Callable[[Sequence[bytes]], Outcome], sink: str = DATABASE
) -> int:
    """Try the quarantined records again; return how many were stored and have left the quarantine.

    Damage stays, as do records that are refused again.

    Raises:
        RetryLaterError: the sink takes nothing now; what was stored before has left.
    """
    stored: set[tuple[str, int, str]] = set()
    try:
        for entry in entries(directory, fingerprint):
            if entry.is_record and entry.sink == sink and not deliver([entry.data]).rejections:
                stored.add(entry.place)
    finally:
        if stored:
            with locked(directory, fingerprint) as accounts:
                _remove(_path(directory, fingerprint), stored, accounts, sink)
    return len(stored)


def _path(directory: Path, fingerprint: str) -> Path:
    return directory / f"quarantine-{fingerprint}.jsonl"


def _remove(path: Path, places: set[tuple[str, int, str]], accounts: Accounts, sink: str) -> None:
    kept = [line for line, entry in _lines(path) if entry.place not in places]
    accounts.released(len(places), sink)
    replace_file(path, b"".join(kept))


def _append(path: Path, found: Sequence[Entry]) -> None:
    text = b"".join(_encode(entry) for entry in found)
    fd = os.open(path, _FLAGS, 0o600)
    try:
        if (size := os.fstat(fd).st_size) and not _ends_a_line(path, size):
            text = b"\n" + text  # an append was cut off here: its line is skipped, the entry comes again
        while text:
            text = text[os.write(fd, text) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _encode(entry: Entry) -> bytes:
    said: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="microseconds"), **asdict(entry)}
    data = said.pop("data")
    if entry.is_record:
        said["record"] = data.decode("ascii")
    else:
        said["base64"] = base64.b64encode(data).decode("ascii")
    return json.dumps(said).encode("ascii") + b"\n"


def _lines(path: Path) -> Iterator[tuple[bytes, Entry]]:
    try:
        with path.open("rb") as file:
            for line in file:
                entry = _decode(line)
                if entry is not None:
                    yield line, entry
    except FileNotFoundError:
        return


def _decode(line: bytes) -> Entry | None:
    try:
        said = json.loads(line)
        data = said["record"].encode("ascii") if "record" in said else base64.b64decode(said["base64"])
        return Entry(said["reason"], said["error"], said["segment"], said["offset"], said["sink"], data)
    except (ValueError, KeyError, TypeError):
        return None  # a line that was cut off by a crash: what it should have held comes again


def _ends_a_line(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"
