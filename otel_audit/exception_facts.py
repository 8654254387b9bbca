"""What a record says of an exception."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from otel_audit.conf import conf
from otel_audit.redaction import Redactor

__all__ = ["describe_exception"]


def describe_exception(error: BaseException) -> dict[str, str]:
    """Return type, message and stack trace of ``error``, redacted and cut, in the keys of the record's ``error``."""
    kind = type(error)
    redactor = conf.redactor
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = _answer(error, redactor) or str(error)
    except BaseException as broken:  # a foreign __str__ may raise anything
        message = f"<{type(broken).__name__} in __str__>"
    try:
        stack = "".join(traceback.TracebackException.from_exception(error, compact=True).format())
    except BaseException as broken:  # the standard library looks into a foreign exception, and may stumble
        stack = f"<{type(broken).__name__} while the stack trace was read>"
    return {"type": name, "message": redactor.value(message), "stacktrace": redactor.value(stack)}


def _answer(error: BaseException, redactor: Redactor) -> str:
    """Return in words what REST framework answers where that has several parts, whose ``str`` is a ``repr``."""
    known = getattr(sys.modules.get("rest_framework.exceptions"), "APIException", None)  # never imported for a look
    if known is None or not isinstance(error, known) or type(error).__str__ is not known.__str__:
        return ""
    detail = getattr(error, "detail", None)
    # Redacted while a value still has its name: of several words behind a name, a text would lose the first alone.
    return _sentence(_said("", redactor.value(detail))) if isinstance(detail, dict | list | tuple) else ""


def _said(path: str, detail: Any) -> Iterator[str]:
    """Yield ``items[0].price: A valid number is required.`` for each field that ``detail`` names."""
    if isinstance(detail, dict):
        for name, part in detail.items():
            yield from _said(f"{path}[{name}]" if name.isdecimal() else f"{path}.{name}" if path else name, part)
    elif isinstance(detail, list):
        words = [str(part) for part in detail if not isinstance(part, dict | list)]
        if words:
            yield from _said(path, _sentence(words))
        for number, part in enumerate(detail):
            if isinstance(part, dict | list):
                yield from _said(f"{path}[{number}]", part)
    else:
        yield f"{path}: {detail}" if path else str(detail)


def _sentence(parts: Iterable[str]) -> str:
    return " ".join(part if part.endswith((".", "!", "?", ";")) else f"{part};" for part in parts).removesuffix(";")
