"""The one named guard at every edge where Django, OpenTelemetry, a thread or the interpreter calls us.

Auditing never breaks the host: what escapes is logged at most once a minute per place, with totals, and counted.
In this package's own tests (``edges.reraise``) it rises, so that no bug hides behind it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["edge", "errors", "report"]

logger = logging.getLogger("otel_audit")

#: How often each place failed since the process began: name of the place → count.
errors: Counter[str] = Counter()
#: Set by this package's own tests.
reraise = False

_SECONDS_BETWEEN_LOGS = 60.0
_last_logged: dict[str, float] = {}


@contextmanager
def edge(place: str) -> Iterator[None]:
    """Run the body; an exception is logged and counted under ``place`` and goes no further."""
    try:
        yield
    except Exception:
        if reraise:
            raise
        report(place)


def report(place: str) -> None:
    """Log and count the exception being handled, at most one log line a minute and place."""
    errors[place] += 1
    now = time.monotonic()
    if now - _last_logged.get(place, -_SECONDS_BETWEEN_LOGS) >= _SECONDS_BETWEEN_LOGS:
        _last_logged[place] = now
        logger.error(
            "otel_audit failed in %s (%d times so far); the site goes on.", place, errors[place], exc_info=True
        )
