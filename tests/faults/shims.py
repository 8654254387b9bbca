"""Makes one system call fail, or the process die in it, at any place that is asked for."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

#: What the spool and its drain use to change a file or directory, and to look at one.
CHANGING = ("mkdir", "open", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "rename", "replace", "unlink")
LOOKING = ("fstat", "stat", "scandir", "pread")


class Killed(BaseException):
    """The process died here: nobody catches it."""


class Counting:
    """Counts system calls, and lets the one with number ``at`` fail or kill."""

    def __init__(self, at: int | None, raising: Callable[[], BaseException]) -> None:
        self.at = at
        self.number = 0
        self._raising = raising

    def wrap(self, name: str) -> Callable[..., Any]:
        """Return the counting version of ``os.name`` or ``fcntl.name``."""
        real = getattr(os, name, None) or getattr(fcntl, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.number += 1
            if self.number - 1 == self.at:
                raise self._raising()
            return real(*arguments, **named)

        return call


@contextmanager
def calls(at: int | None = None, *, kill: bool = False) -> Iterator[Counting]:
    """Count the system calls inside the block; let number ``at`` fail with EIO, or kill."""
    counting = Counting(at, Killed if kill else lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
    wrapped = {name: counting.wrap(name) for name in (*CHANGING, *LOOKING)}
    with patch.multiple(os, **wrapped), patch.object(fcntl, "flock", counting.wrap("flock")):
        yield counting
