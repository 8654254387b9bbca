"""How many bytes the spool may hold, and how many it does: a limit that every process of a directory keeps."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final

from otel_audit.exceptions import SpoolError

__all__ = ["Room", "size_of_all", "size_problem"]

logger = logging.getLogger("otel_audit.delivery")

#: The size of the whole directory is looked up again after this many bytes of our own, or this many seconds
#: when full.
_SURVEY_BYTES: Final = 1024 * 1024
_SURVEY_SECONDS: Final = 0.25
_SECONDS_BETWEEN_WARNINGS: Final = 60.0
#: Who looks from outside calls it full from this part of its limit on.
_FULL: Final = 0.99


class Room:
    """What is left of ``max_bytes`` in ``directory`` for one writer, who says how large its own segment is."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self._max_bytes = max_bytes
        self._used = 0
        self._surveyed_size = 0
        self._surveyed_at = 0.0
        self._warned_at = -_SECONDS_BETWEEN_WARNINGS

    def require(self, length: int, size: int) -> None:
        """Make sure that ``length`` bytes more fit, with a segment of ``size`` bytes.

        Raises:
            SpoolError: they do not, or the directory cannot be listed.
        """
        grown = size - self._surveyed_size
        full = self._used + grown + length > self._max_bytes
        if grown > _SURVEY_BYTES or (full and time.monotonic() - self._surveyed_at > _SURVEY_SECONDS):
            self.survey(size)
            grown = 0
            full = self._used + length > self._max_bytes
        if full:
            raise SpoolError(
                f"The spool {self.directory} is full: {self._used + grown} of {self._max_bytes} bytes. "
                'Bring the audit database back, or raise OTEL_AUDIT["SPOOL_MAX_BYTES"].'
            )

    def survey(self, size: int) -> None:
        """Look up the size of the whole directory, with a segment of ``size`` bytes; warn once a minute from 80 % on.

        Raises:
            SpoolError: the directory cannot be listed.
        """
        try:
            self._used = size_of_all(self.directory)
        except OSError as error:
            raise SpoolError(f"The spool directory {self.directory} cannot be listed: {error.strerror}.") from error
        self._surveyed_size = size
        self._surveyed_at = time.monotonic()
        if self._used > 0.8 * self._max_bytes and self._surveyed_at - self._warned_at >= _SECONDS_BETWEEN_WARNINGS:
            self._warned_at = self._surveyed_at
            logger.warning(
                "The audit spool %s holds %d of %d bytes; the audit database does not keep up.",
                self.directory,
                self._used,
                self._max_bytes,
            )


def size_problem(directory: Path, max_bytes: int) -> str | None:
    """Say in one sentence that the spool takes hardly a record more; None when it does."""
    used = size_of_all(directory)
    if used <= _FULL * max_bytes:
        return None
    return f"The spool {directory} is full: {used} of {max_bytes} bytes. Bring the audit database back."


def size_of_all(directory: Path) -> int:
    """Return how many bytes the files of ``directory`` have."""
    with os.scandir(directory) as entries:
        return sum(_size_of(entry) for entry in entries)


def _size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # drained and deleted in the meantime
        return 0
