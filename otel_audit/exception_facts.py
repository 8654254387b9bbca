"""What a record says of an exception."""

from __future__ import annotations

import traceback

from otel_audit.conf import conf

__all__ = ["describe_exception"]


def describe_exception(error: BaseException) -> dict[str, str]:
    """Return type, message and stack trace of ``error``, redacted and cut, in the keys of the record's ``error``."""
    kind = type(error)
    redactor = conf.redactor
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except BaseException as broken:  # a foreign __str__ may raise anything
        message = f"<{type(broken).__name__} in __str__>"
    try:
        stack = "".join(traceback.TracebackException.from_exception(error, compact=True).format())
    except BaseException as broken:  # the standard library looks into a foreign exception, and may stumble
        stack = f"<{type(broken).__name__} while the stack trace was read>"
    return {"type": name, "message": redactor.value(message), "stacktrace": redactor.value(stack)}
