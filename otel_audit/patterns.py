"""Compiles a regular expression of the settings, and refuses one that a request could make run for ever.

Python's engine backtracks and cannot be stopped from another thread, so a catastrophic pattern (CWE-1333)
has to be recognised before it is used.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]  # private; there is no other
from typing import Any, Final

from otel_audit.exceptions import ConfigurationError

__all__ = ["MAX_PATTERN", "compiled"]

MAX_PATTERN: Final = 1000  # characters

_REPEATS: Final = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_CHARACTERS: Final = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)
_SINGLE: Final = [[code] for code in _CHARACTERS]
_PROBES: Final = [*map(chr, range(128)), "é", "中"]


def compiled(written: Any, key: str = "path") -> re.Pattern[str]:
    """Return the compiled pattern; ``key`` is where it stands.

    Raises:
        ConfigurationError: it is no regular expression, longer than 1000 characters, or repeats a repetition
        in a way
            that takes exponential time. The message is the end of a sentence that names the setting.
    """
    text = reprlib.repr(written)
    if not isinstance(written, str):
        raise ConfigurationError(f"has the {key} {text}, no regular expression")
    if len(written) > MAX_PATTERN:
        raise ConfigurationError(f"has a {key} of {len(written)} characters, more than {MAX_PATTERN}")
    try:
        pattern = re.compile(written)
        explosive = any(_explosive(_parser.parse(written)))
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigurationError(f"has the {key} {reprlib.repr(written)}, no regular expression: {error}") from error
    if explosive:
        raise ConfigurationError(f"has the {key} {text}, which repeats a repetition: some requests would take for ever")
    return pattern


def _explosive(tree: Any) -> Iterator[bool]:
    """Yield for each unbounded repeat in ``tree`` whether its body is ambiguous."""
    for code, argument in tree:
        if code in _REPEATS and argument[1] is _constants.MAXREPEAT:
            yield _ambiguous(argument[2])
        for inner in _inner(argument):
            yield from _explosive(inner)


def _ambiguous(body: Any) -> bool:
    """Whether one unbounded repeat can be all of ``body``: ``(a*)*``, ``(b?a+)+``, ``(a+|b)+``, ``(.*/)*``.

    Repeating that, the same text can be cut in exponentially many ways.
    """
    items = list(_flattened(body))
    for item in items:
        code, argument = item
        others = [other for other in items if other is not item and not _may_be_empty(other)]
        if code in _REPEATS and argument[1] is _constants.MAXREPEAT:
            if all(_swallows(argument[2], other) for other in others):
                return True
        elif code is _constants.BRANCH and not others and any(_ambiguous(way) for way in argument[1]):
            return True
    return False


def _swallows(repeated: Any, other: Any) -> bool:
    """Whether ``other`` is one character that ``repeated`` can match too, so that it separates nothing."""
    if other[0] not in _CHARACTERS or [item[0] for item in repeated] not in _SINGLE:
        return False
    alone = _parser.SubPattern(repeated.state, [other])
    one, two = _compiler.compile(repeated), _compiler.compile(alone)
    return any(one.match(character) and two.match(character) for character in _PROBES)


def _flattened(body: Any) -> Iterator[Any]:
    """Yield the items of a sequence, those of groups in it included."""
    for item in body:
        code, argument = item
        if code is _constants.SUBPATTERN:
            yield from _flattened(argument[-1])
        else:
            yield item


def _may_be_empty(item: Any) -> bool:
    code, argument = item
    if code in _REPEATS:
        return argument[0] == 0 or all(_may_be_empty(inner) for inner in _flattened(argument[2]))
    return code in (_constants.AT, _constants.ASSERT, _constants.ASSERT_NOT)


def _inner(argument: Any) -> Iterator[Any]:
    """Yield the patterns inside an operation's argument."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _inner(part)
