"""Says that audit records are in trouble: loudly the first time, then at most once a minute per reason, with counts."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from typing import Final

from otel_audit.conf import conf
from otel_audit.signals import audit_delivery_failed

__all__ = ["lock", "raise_alarm"]

logger = logging.getLogger("otel_audit.delivery")

INTERVAL_S: Final = 60.0
#: Held by the thread that counts an alarm; another one after a fork.
lock = threading.RLock()
_counts: Counter[str] = Counter()
_raised_at: dict[str, float] = {}


def raise_alarm(reason: str, count: int, error: object) -> None:
    """Count ``count`` failures of ``reason``; log and signal them when the last alarm of it is a minute ago.

    Args:
        reason: one word that names the kind of failure, the key of the rate limit.
        count: records concerned.
        error: what went wrong, as a sentence or an exception.
    """
    now = time.monotonic()
    with lock:
        _counts[reason] += count
        if now - _raised_at.get(reason, -INTERVAL_S) < INTERVAL_S:
            return
        _raised_at[reason] = now
        total = _counts.pop(reason)
    said = conf.redactor.text(" ".join(str(error).split())) or type(error).__name__
    logger.error("Audit delivery: %s (%d): %s", reason, total, said)
    for receiver, answer in audit_delivery_failed.send_robust(sender=None, reason=reason, count=total, error=said):
        if isinstance(answer, Exception):
            logger.error("A receiver of audit_delivery_failed raised: %r", receiver, exc_info=answer)


def _after_fork_in_child() -> None:
    """Another thread of the parent may have held the lock at the fork."""
    global lock  # noqa: PLW0603  # a module has one alarm
    lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
