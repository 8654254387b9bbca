"""The end of a segment: when every sink is done with it, it goes into the books and is deleted.

Each sink's drainer looks at the segments that it has finished; whoever finds all done retires one, once. A segment
also waits for a sink that only another process has, as while a site is deployed that adds one. It does not wait for
ever: from a part of the spool's limit on, the database's drainer gives up what another sink has not read.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from otel_audit_exporters.accounts import DATABASE, Position, locked, position_path
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.losses import loss_path
from otel_audit_exporters.room import size_of_all
from otel_audit_exporters.segments import Name, Segment, segments
from otel_audit_exporters.self_metrics import count_dropped
from otel_audit_exporters.tailing import Tail

__all__ = ["Retirement"]

logger = logging.getLogger("otel_audit.delivery")

#: From this part of the spool's limit on, the database's drainer does not wait for the other sinks any longer.
PRESSED: Final = 0.9
#: How long the size of the spool is taken for known, unless a segment has gone.
SURVEY_S: Final = 0.2


class Retirement:
    """Retires the segments of one target.

    Args:
        directory: the spool directory.
        fingerprint: the target.
        sink: whose drainer asks.
        sinks: all sinks that this site has.
        limit: bytes that the spool may hold; None: there is room for ever.
    """

    def __init__(
        self, directory: Path, fingerprint: str, sink: str, sinks: Sequence[str], limit: int | None = None
    ) -> None:
        self._directory = directory
        self._fingerprint = fingerprint
        self._gives_up = sink == DATABASE
        self._sinks = (DATABASE, *(each for each in sinks if each != DATABASE))
        self._limit = limit
        self._surveyed = (0.0, False)

    def look_at(self, tail: Tail) -> bool:
        """Retire a segment that its drainer has finished, if all others have; return whether it has gone."""
        # The site's own first: most often one of them is not done, and nobody has to look for others.
        return self._is_free(tail, self._sinks) and self._is_free(tail, self._sinks_elsewhere()) and self.retire(tail)

    def _is_free(self, tail: Tail, sinks: Iterable[str]) -> bool:
        """Whether none of ``sinks`` keeps a segment; what is given up is not kept."""
        waiting = [sink for sink in sinks if not Position.load(tail.path, sink).done]
        if waiting and not self._may_give_up(waiting):
            return False
        for sink in waiting:
            self._give_up(tail, sink)
        return True

    def retire(self, tail: Tail) -> bool:
        """Take a segment into the books and delete it, in the order of its stream; return whether it has gone."""
        name = tail.name
        names = [Name.parse(path.name) for path in segments(self._directory)]
        numbers = [each.number for each in names if each and each.stream == name.stream]
        if not numbers or min(numbers) < name.number:
            return False  # gone already; or an earlier one cannot be read now, and this one is looked at again
        last = max(numbers) == name.number
        with locked(self._directory, self._fingerprint) as accounts:
            if not tail.path.exists():
                return False  # another sink's drainer has just done it
            position = Position.load(tail.path, DATABASE)
            new = tail.path.name not in accounts.retired
            missing = accounts.retire(tail.path, position, last=last, others=self._others(tail))
            if last:
                accounts.retire_losses(loss_path(self._directory, name.stream, self._fingerprint))
        if missing:
            count_dropped("gap", missing)
            raise_alarm("gap", missing, f"{tail.path.name}: records are missing before its first")
        if last and new and not position.closed:
            logger.warning("The audit stream %s of process %d ended without closing.", name.stream, name.pid)
        self.delete()
        return True

    def _others(self, tail: Tail) -> dict[str, Position]:
        """Return how far every other sink has come that has begun, whoever has it."""
        names = [path.name.removesuffix(".position") for path in self._positions(tail.path)]
        sinks = [name.rpartition(".")[2] for name in names]
        return {sink: Position.load(tail.path, sink) for sink in sinks if sink != DATABASE}

    def _positions(self, segment: Path) -> Iterator[Path]:
        return self._directory.glob(position_path(segment, "*").name)

    def delete(self) -> None:
        """Delete what the books have counted; a crash in between is made up for here, never counted twice."""
        with locked(self._directory, self._fingerprint) as accounts:
            for name in accounts.retired:
                path = self._directory / name
                path.unlink(missing_ok=True)
                for position in self._positions(path):
                    position.unlink(missing_ok=True)  # also of a sink that the site has no longer
            accounts.retired = []
        self._surveyed = (0.0, False)

    def _sinks_elsewhere(self) -> Iterator[str]:
        """Yield the sinks at work that another process alone has; their locks say so."""
        before, after = f"drain-{self._fingerprint}-", ".lock"
        for path in self._directory.glob(f"{before}*{after}"):
            sink = path.name.removeprefix(before).removesuffix(after)
            if sink not in self._sinks and _is_held(path):
                yield sink

    def _may_give_up(self, waiting: Sequence[str]) -> bool:
        if not self._gives_up or self._limit is None or DATABASE in waiting:
            return False
        at, pressed = self._surveyed
        if time.monotonic() - at > SURVEY_S:
            pressed = size_of_all(self._directory) > PRESSED * self._limit
            self._surveyed = (time.monotonic(), pressed)
        return pressed

    def _give_up(self, tail: Tail, sink: str) -> None:
        """Count what ``sink`` has not got of a segment, which has to go before the spool is full, as lost for it."""
        position = Position.load(tail.path, sink)
        with Segment(tail.path) as segment:
            count = segment.count(position.offset)
        position.lost += count
        position.done = True
        position.save(tail.path, sink)
        count_dropped("spool full", count, sink)
        raise_alarm("dropped", count, f"The spool is nearly full: {tail.path.name} goes without waiting for {sink!r}.")


def _is_held(path: Path) -> bool:
    """Whether a drainer holds this lock."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
