"""Compiles a regular expression of the settings, and refuses one that a request could make run for ever.

Python's engine backtracks and cannot be stopped from another thread, so a catastrophic pattern (CWE-1333)
has to be recognised before it is used.
"""

from __future__ import annotations

import re
import reprlib
from re import _parser  # type: ignore[attr-defined]  # private; there is no other
from typing import Any, Final

from otel_audit.ambiguity import TooInvolvedError, is_catastrophic
from otel_audit.exceptions import ConfigurationError

__all__ = ["MAX_PATH", "MAX_PATTERN", "compiled"]

MAX_PATTERN: Final = 1000  # characters
#: A longer path is shown to no pattern, as one may take time in the square of its length.
MAX_PATH: Final = 2048


def compiled(written: Any, key: str = "path") -> re.Pattern[str]:
    """Return the compiled pattern; ``key`` is where it stands.

    Raises:
        ConfigurationError: it is no regular expression, longer than 1000 characters, or may take more than
            seconds with a path of 2048 characters. The message is the end of a sentence that names the setting.
    """
    text = reprlib.repr(written)
    if not isinstance(written, str):
        raise ConfigurationError(f"has the {key} {text}, no regular expression")
    if len(written) > MAX_PATTERN:
        raise ConfigurationError(f"has a {key} of {len(written)} characters, more than {MAX_PATTERN}")
    try:
        pattern = re.compile(written)
        catastrophic = is_catastrophic(_parser.parse(written), MAX_PATH)
    except TooInvolvedError as error:
        raise ConfigurationError(f"has the {key} {text}, which is too involved to be shown harmless") from error
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigurationError(f"has the {key} {reprlib.repr(written)}, no regular expression: {error}") from error
    if catastrophic:
        raise ConfigurationError(
            f"has the {key} {text}, which can read the same text in too many ways: some requests would take for ever"
        )
    return pattern
