"""What who delivered a record gets: it says when the record survives a power loss, and waits for that."""

from __future__ import annotations

import asyncio
from typing import Final

from otel_audit.exceptions import SpoolError
from otel_audit_exporters.alarm import raise_alarm
from otel_audit_exporters.spool import SpoolWriter

__all__ = ["DURABLE_S", "SETTLED", "Receipt"]

#: A disk that does not answer within this many seconds is in trouble.
DURABLE_S: Final = 30.0


class Receipt:
    """Says when what was delivered survives a power loss: at once unless ``FSYNC`` is ``"always"``."""

    __slots__ = ("_spool", "_ticket")

    def __init__(self, spool: SpoolWriter | None, ticket: int) -> None:
        self._spool = spool
        self._ticket = ticket

    def wait(self) -> bool:
        """Wait for the disk. A disk that fails is an alarm, and False; the records still drain."""
        if self._spool is None:
            return True
        try:
            self._spool.wait_durable(self._ticket, DURABLE_S)
        except SpoolError as error:
            raise_alarm("fsync", 1, error)
            return False
        return True

    async def wait_async(self) -> bool:
        """Wait for the disk without holding up the event loop."""
        if self._spool is None:
            return True
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[OSError | None] = loop.create_future()
        self._spool.when_durable(self._ticket, lambda error: _tell(loop, answered, error))
        error: Exception | None
        try:
            error = await asyncio.wait_for(answered, DURABLE_S)
        except TimeoutError as late:
            error = late
        if error is not None:
            raise_alarm("fsync", 1, error)
        return error is None


#: Of what waits for no disk.
SETTLED: Final = Receipt(None, 0)


def _tell(loop: asyncio.AbstractEventLoop, waiting: asyncio.Future[OSError | None], error: OSError | None) -> None:
    """Answer from the flusher's thread; the request may have been cancelled meanwhile."""
    loop.call_soon_threadsafe(lambda: None if waiting.done() else waiting.set_result(error))
