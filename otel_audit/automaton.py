"""Makes of a regular expression the automaton of its places (Glushkov's), for `otel_audit.ambiguity`.

A place is where one character is read. What is matched by itself, assertions and atomic groups, stands apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]  # private; there is no other
from typing import Any, Final

__all__ = ["Automaton", "TooInvolvedError", "Work"]

#: A repetition with at most so many rounds is written out; one with more counts as one without end.
_WRITTEN_OUT: Final = 8
_MAX_PLACES: Final = 2000
_MAX_WORK: Final = 200_000

_REPEATS: Final = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_CHARACTERS: Final = (
    _constants.LITERAL,
    _constants.NOT_LITERAL,
    _constants.ANY,
    _constants.IN,
    _constants.CATEGORY,
)
_ALONE: Final = (_constants.ASSERT, _constants.ASSERT_NOT)
_PROBES: Final = [*map(chr, range(128)), "é", "中"]


class TooInvolvedError(ValueError):
    """An expression is so large that nothing can be said of it in reasonable time."""


@dataclass(slots=True)
class _Part:
    """A part of an expression: in how many ways it can be empty, and where it can begin and end, each in how many."""

    empty: int = 1
    first: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)


class Work:
    """The work on one expression so far, and what each of its characters can read, which is found out once."""

    def __init__(self) -> None:
        self._done = 0
        self._bits: dict[tuple[Any, str], int] = {}

    def count(self) -> None:
        """Count a step.

        Raises:
            TooInvolvedError: there were too many.
        """
        self._done += 1
        if self._done > _MAX_WORK:
            raise TooInvolvedError

    def bits(self, state: Any, code: Any, argument: Any) -> int:
        """Return which of the probed characters are read, as bits."""
        self.count()
        key = (code, repr(argument))
        if (found := self._bits.get(key)) is None:
            found = self._bits[key] = _bits(state, code, argument)
        return found

    def bits_of_any(self, inner: Any, state: Any) -> int:
        """Return what an atomic part can read: any character of it."""
        if isinstance(inner, int):
            return (1 << len(_PROBES)) - 1
        bits = 0
        for code, argument in inner:
            if code in _CHARACTERS:
                bits |= self.bits(state, code, argument)
            elif code is _constants.BRANCH:
                for way in argument[1]:
                    bits |= self.bits_of_any(way, state)
            elif isinstance(part := argument[-1] if isinstance(argument, tuple) else argument, _parser.SubPattern):
                bits |= self.bits_of_any(part, state)
        return bits


class Automaton:
    """The places of the characters of an expression, what each can read, and which can follow in how many ways.

    Args:
        tree: what ``re``'s parser makes of the expression, or of a part that is matched by itself.
        work: that of the whole expression, however many such parts it has.
    """

    def __init__(self, tree: Any, work: Work) -> None:
        #: What each place reads, as bits for the probed characters.
        self.reads: list[int] = []
        #: Place → place → in how many ways, 2 for more.
        self.follow: list[dict[int, int]] = []
        #: Expressions that are matched by themselves: assertions, atomic groups.
        self.apart: list[Any] = []
        self.is_anchored = False
        #: Many rounds of what may be empty: the engine tries for each whether it is.
        self.has_empty_rounds = False
        self._state = tree.state
        self._rounds = 1
        self._work = work
        self.last = self._sequence(tree).last

    def _sequence(self, items: Any) -> _Part:
        whole = _Part()
        for item in items:
            whole = self._then(whole, self._item(*item))
        return whole

    def _item(self, code: Any, argument: Any) -> _Part:
        self._work.count()
        if code in _CHARACTERS:
            return self._place(self._work.bits(self._state, code, argument))
        if (ways := _ways(code, argument)) is not None:
            return self._either([self._sequence(way) for way in ways])
        if code in _REPEATS:
            return self._repeat(*argument)
        if code in _ALONE:
            self.apart.append(argument[1])
        elif code is _constants.AT:
            self.is_anchored |= argument not in (_constants.AT_BEGINNING, _constants.AT_BEGINNING_STRING)
        else:
            return self._atomic(argument[2] if code is _constants.POSSESSIVE_REPEAT else argument)
        return _Part()

    def _atomic(self, inner: Any) -> _Part:
        """Return what is read in one way only: an atomic group, a possessive repeat, a reference to a group."""
        if not isinstance(inner, int):
            self.apart.append(inner)
        self.is_anchored = True  # a text may fail behind it
        return self._place(self._work.bits_of_any(inner, self._state))

    def _place(self, bits: int) -> _Part:
        place = len(self.reads)
        if place >= _MAX_PLACES:
            raise TooInvolvedError
        self.reads.append(bits)
        self.follow.append({})
        return _Part(0, {place: 1}, {place: 1})

    def _then(self, one: _Part, two: _Part) -> _Part:
        self._link(one.last, two.first)
        return _Part(
            min(2, one.empty * two.empty),
            _sum(one.first, two.first, one.empty),
            _sum(two.last, one.last, two.empty),
        )

    def _either(self, parts: list[_Part]) -> _Part:
        whole = _Part(0)
        for part in parts:
            whole.first = _sum(whole.first, part.first, 1)
            whole.last = _sum(whole.last, part.last, 1)
            whole.empty = min(2, whole.empty + part.empty)
        return whole

    def _repeat(self, least: int, most: int, body: Any) -> _Part:
        outer, self._rounds = self._rounds, self._rounds * most
        many = self._rounds > _WRITTEN_OUT
        is_fixed = least == most and len({*body.getwidth()}) == 1
        is_endless = most > _WRITTEN_OUT and not is_fixed
        if many and not is_endless:
            self.apart.append(_endless(body, self._state))
        whole = _Part()
        for number in range(min(least if is_endless else most, _WRITTEN_OUT)):
            part = self._sequence(body)
            self.has_empty_rounds |= many and part.empty > 0
            if number >= least:
                part = _Part(min(2, part.empty + 1), part.first, part.last)
            whole = self._then(whole, part)
        if is_endless:
            part = self._sequence(body)
            self.has_empty_rounds |= part.empty > 0
            whole = self._then(whole, self._loop(part))
        self._rounds = outer
        return whole

    def _loop(self, part: _Part) -> _Part:
        self._link(part.last, part.first)
        return _Part(1, part.first, part.last)

    def _link(self, last: dict[int, int], first: dict[int, int]) -> None:
        for place, ways in last.items():
            follow = self.follow[place]
            for next_place, more in first.items():
                self._work.count()
                follow[next_place] = min(2, follow.get(next_place, 0) + ways * more)


def _ways(code: Any, argument: Any) -> list[Any] | None:
    """Return the parts of which one is to match; None where it is no group."""
    if code is _constants.SUBPATTERN:
        return [argument[-1]]
    if code is _constants.BRANCH:
        return list(argument[1])
    if code is _constants.GROUPREF_EXISTS:
        return [way or () for way in argument[1:]]
    return None


def _endless(body: Any, state: Any) -> Any:
    """Return the repetition of ``body`` without end."""
    return _parser.SubPattern(state, [(_constants.MAX_REPEAT, (0, _constants.MAXREPEAT, body))])


def _sum(one: dict[int, int], two: dict[int, int], times: int) -> dict[int, int]:
    """Return the ways of both, those of ``two`` as often as ``times``."""
    if not times or not two:
        return one
    return {place: min(2, one.get(place, 0) + two.get(place, 0) * times) for place in one.keys() | two.keys()}


def _bits(state: Any, code: Any, argument: Any) -> int:
    """Return which of the probed characters are read, as bits."""
    probes = [*_PROBES, *sorted(set(filter(_is_foreign, state.str)))]
    if code is _constants.LITERAL and chr(argument) not in probes:
        return int(1 << (2000 + argument % 1000))  # written as an escape: alike to itself
    pattern = _compiler.compile(_parser.SubPattern(state, [(code, argument)]))
    return sum(1 << index for index, character in enumerate(probes) if pattern.match(character))


def _is_foreign(character: str) -> bool:
    return character > "\x7f" and character not in _PROBES
