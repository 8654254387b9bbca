"""What a process could not keep, by reason, and refused to serve, in a block that was written while there was room.

Overwriting it needs no new space, so that a full disk does not also hide what it cost. The drain takes the counts into
the books when the stream has ended.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["EXCLUDED", "REFUSED", "LossFile", "excluded", "loss_path", "read_losses"]

logger = logging.getLogger("otel_audit.delivery")

#: Not a reason for a loss: requests that were refused as their intent could not be stored.
REFUSED: Final = "refused"
#: Nor is what begins with this: requests that the policy leaves out, by what of it says so.
EXCLUDED: Final = "excluded:"

_BLOCK: Final = 4096
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def loss_path(directory: Path, stream: str, fingerprint: str) -> Path:
    """Return the path of the losses of ``stream``."""
    return directory / f"{stream}-{fingerprint}.losses"


def read_losses(path: Path) -> dict[str, int]:
    """Return the counts by reason; nothing where there is no file or it is damaged."""
    try:
        text, _, checksum = path.read_bytes().rstrip(b" \n").partition(b"\t")
        if int(checksum) != zlib.crc32(text):
            return {}
        found: dict[str, int] = json.loads(text)
    except (FileNotFoundError, ValueError):
        return {}
    return found


def excluded(counts: dict[str, int]) -> Counter[str]:
    """Take the exclusions out of ``counts``; return them by what of the policy they are due to."""
    found = [reason for reason in counts if reason.startswith(EXCLUDED)]
    return Counter({reason.removeprefix(EXCLUDED): counts.pop(reason) for reason in found})


class LossFile:
    """The losses of one stream. The block is reserved when it is made."""

    def __init__(self, path: Path) -> None:
        self._counts: Counter[str] = Counter()
        self._fd = os.open(path, _FLAGS, 0o600)
        self._write(self._counts)
        os.fdatasync(self._fd)

    def add(self, counts: Mapping[str, int], *, sync: bool = True) -> None:
        """Count records as lost, by reason: all of them, or none when it raises.

        Args:
            counts: by reason.
            sync: whether they are to survive a power loss.
        """
        new = self._counts + Counter(counts)
        self._write(new)
        self._counts = new
        if not sync:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:  # they are written; only a power loss may take them
            logger.warning("The losses of an audit stream could not be synced: %s", error)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, counts: Counter[str]) -> None:
        text = json.dumps(dict(counts.most_common(50))).encode("ascii")
        os.pwrite(self._fd, (b"%s\t%d" % (text, zlib.crc32(text))).ljust(_BLOCK - 1)[: _BLOCK - 1] + b"\n", 0)
