"""The thread that delivers what ends where nobody else does: plain OpenTelemetry spans outside any request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from otel_audit.conf import conf
from otel_audit.edges import edge
from otel_audit.locks import starting

__all__ = ["PumpThread"]

#: A plain span that ends outside a request is in the spool within this many seconds.
DELAY_S: Final = 0.005
#: What is held, as nobody takes it, is tried again after this many seconds.
RETRY_S: Final = 1.0


class PumpThread:
    """Calls ``pump`` soon after it was asked to, and again and again while ``is_holding`` says that something waits."""

    def __init__(self, pump: Callable[[], object], is_holding: Callable[[], bool]) -> None:
        #: Held while it starts. Re-entrant, as a signal handler may record something while its own thread holds it.
        self.lock = threading.RLock()
        self.thread: threading.Thread | None = None
        self._pump = pump
        self._is_holding = is_holding
        self._wanted: SimpleQueue[bool] = SimpleQueue()  # safe inside garbage collection; False: end

    def start(self, *, wait: bool = True) -> None:
        """Start it, once; without ``wait`` only when nobody else starts it now.

        Garbage collection may run in a thread that the other waits for. The next pump takes what is queued then.
        """
        if not conf.enabled or conf.delivery == "memory":
            return  # a site's own tests have no thread of ours: `capture` takes what has ended
        if self.thread is not None or not self.lock.acquire(blocking=wait):
            return
        try:
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name="otel-audit-pump", daemon=True)
                with starting():
                    self.thread.start()
        finally:
            self.lock.release()

    def ask(self) -> None:
        """Have it pump soon, if it runs. Takes no lock."""
        self._wanted.put(True)

    def end(self, timeout: float) -> None:
        """End it; wait ``timeout`` seconds at most."""
        if self.thread is not None:
            self._wanted.put(False)
            self.thread.join(timeout)

    def _run(self) -> None:
        is_wanted = True
        while is_wanted:
            with suppress(Empty):  # what is held is tried again although nothing new comes
                is_wanted = self._wanted.get(timeout=RETRY_S if self._is_holding() else None)
                time.sleep(DELAY_S)  # what ends together is delivered together
                while is_wanted:
                    is_wanted = self._wanted.get_nowait()
            with edge("pipeline.pump_thread"):
                self._pump()
