"""The one named guard at every edge where Django, OpenTelemetry, a thread or the interpreter calls us.

Auditing never breaks the host: what escapes is logged at most once a minute per place, with totals, and counted.
In this package's own tests (``edges.reraise``) it rises, so that no bug hides behind it.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections import Counter
from types import TracebackType

__all__ = ["caught", "edge", "errors", "report"]

logger = logging.getLogger("otel_audit")

#: How often each place failed since the process began: name of the place → count.
errors: Counter[str] = Counter()
#: Set by this package's own tests.
reraise = False

_SECONDS_BETWEEN_LOGS = 60.0
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_last_logged: dict[str, float] = {}


class edge:  # noqa: N801  # used like a function: with edge("place")
    """Run the body; an exception is logged and counted under ``place`` and goes no further."""

    __slots__ = ("failed", "place")

    def __init__(self, place: str) -> None:
        self.place = place
        self.failed = False

    def __enter__(self) -> edge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or reraise or not isinstance(error, Exception):
            return False
        self.failed = True
        report(self.place)
        return True


def caught(place: str) -> None:
    """Do the same from an ``except`` clause, which costs a request nothing when all goes well."""
    if reraise:
        raise  # noqa: PLE0704  # the exception that the caller handles
    report(place)


def report(place: str) -> None:
    """Log and count the exception being handled, at most one log line a minute and place."""
    errors[place] += 1
    now = time.monotonic()
    if now - _last_logged.get(place, -_SECONDS_BETWEEN_LOGS) >= _SECONDS_BETWEEN_LOGS:
        _last_logged[place] = now
        logger.error(  # not exc_info: see _traceback
            "otel_audit failed in %s (%d times so far); the site goes on.\n%s", place, errors[place], _traceback()
        )


def _traceback() -> str:
    """Return the exception being handled without secrets, each line indented and printable.

    Its message may hold what a client has sent, who would have it end a line and begin one of ours (CWE-117).
    """
    from otel_audit.conf import conf

    try:
        text = str(conf.redactor.value(traceback.format_exc()))
    except Exception as error:  # an exception that cannot be printed, or settings that cannot be read
        text = f"{type(error).__name__} while the traceback was read"
    printable = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text.strip())
    return "\n".join(f"  {line}" for line in printable.split("\n"))
