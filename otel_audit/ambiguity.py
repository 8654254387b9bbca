"""Tells of a regular expression whether some text could make Python's engine run for ever.

The engine backtracks: it fails only when it has tried every way to read a text. How many there are grows

- exponentially, where a loop can read the same text in two ways, as in ``(a+)+``, ``(a|aa)+``, ``(.*,)*``;
- with a power of the text's length, where loops follow each other that can read the same text, as in ``.*.*.*x``.

Both show in the automaton of the expression, whose states are the places of its characters (Glushkov's). Two ways to
read a text are two paths in it: they are searched for in the product of the automaton with itself (Weber and Seidl,
"On the degree of ambiguity of finite automata", 1991).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]  # private; there is no other
from typing import Any, Final

__all__ = ["TooInvolvedError", "is_catastrophic"]

#: A repetition with at most so many rounds is written out; one with more counts as one without end.
_WRITTEN_OUT: Final = 8
_MAX_PLACES: Final = 2000
_MAX_VISITS: Final = 200_000
#: An expression may take so many steps of the engine at the worst; it does some 50 million in a second.
_MAX_STEPS: Final = 10**8

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


def is_catastrophic(tree: Any, longest: int) -> bool:
    """Whether a text of at most ``longest`` characters could keep the engine busy.

    Args:
        tree: what ``re``'s parser makes of the expression.
        longest: characters of the longest text that is shown to it.

    Raises:
        TooInvolvedError: it is too large to tell.
    """
    waiting = [tree]
    while waiting:
        automaton = _Automaton(waiting.pop())
        waiting += automaton.apart
        search = _Search(automaton)
        if search.reads_in_two_ways() or search.steps(longest) > _MAX_STEPS:
            return True
    return False


@dataclass(slots=True)
class _Part:
    """A part of an expression: in how many ways it can be empty, and where it can begin and end, each in how many."""

    empty: int = 1
    first: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)


class _Automaton:
    """The places of the characters of an expression, what each can read, and which can follow in how many ways."""

    def __init__(self, tree: Any) -> None:
        #: What each place reads, as bits for the probed characters.
        self.reads: list[int] = []
        #: Place → place → in how many ways, 2 for more.
        self.follow: list[dict[int, int]] = []
        #: Expressions that are matched by themselves: assertions, atomic groups.
        self.apart: list[Any] = []
        self.is_anchored = False
        self._state = tree.state
        self.last = self._sequence(tree).last

    def _sequence(self, items: Any) -> _Part:
        whole = _Part()
        for item in items:
            whole = self._then(whole, self._item(*item))
        return whole

    def _item(self, code: Any, argument: Any) -> _Part:
        if code in _CHARACTERS:
            return self._place(_bits(self._state, code, argument))
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
        part = self._place(_any_of(inner, self._state))
        return _Part(1, part.first, part.last)

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

    def _repeat(self, least: int, most: Any, body: Any) -> _Part:
        whole = _Part()
        endless = most is _constants.MAXREPEAT or (most > _WRITTEN_OUT and least != most)
        for _ in range(min(least, _WRITTEN_OUT)):
            part = self._sequence(body)
            if least > _WRITTEN_OUT and part.empty:
                return self._ambiguous(part)
            whole = self._then(whole, part)
        if endless:
            part = self._sequence(body)
            if most is not _constants.MAXREPEAT and part.empty:
                return self._ambiguous(part)
            return self._then(whole, self._loop(part))
        for _ in range(min(most, _WRITTEN_OUT) - min(least, _WRITTEN_OUT)):
            part = self._sequence(body)
            whole = self._then(whole, _Part(min(2, part.empty + 1), part.first, part.last))
        return whole

    def _ambiguous(self, part: _Part) -> _Part:
        """Return many rounds of which each may be empty: the engine tries which of them are."""
        return self._loop(self._loop(part))

    def _loop(self, part: _Part) -> _Part:
        self._link(part.last, part.first)
        return _Part(1, part.first, part.last)

    def _link(self, last: dict[int, int], first: dict[int, int]) -> None:
        for place, ways in last.items():
            follow = self.follow[place]
            for next_place, more in first.items():
                follow[next_place] = min(2, follow.get(next_place, 0) + ways * more)


class _Search:
    """Looks for texts that an automaton can read in several ways."""

    def __init__(self, automaton: _Automaton) -> None:
        self._reads = automaton.reads
        self._follow = automaton.follow
        self._visits = 0
        #: What can be read behind each place, as bits.
        self._reached = self._closure()
        self._loops = list(self._all_loops())
        #: Those behind which a text can still fail.
        self._failing = [loop for loop in self._loops if automaton.is_anchored or loop.isdisjoint(automaton.last)]

    def reads_in_two_ways(self) -> bool:
        """Whether a loop can read one text in two ways."""
        return any(self._is_ambiguous(loop) for loop in self._loops)

    def steps(self, longest: int) -> float:
        """Return how many steps the engine may take with a text of ``longest`` characters, roughly.

        One loop can take over from another wherever that has read a whole number of the texts that both can read: the
        shorter these are, the more such places a text has.
        """
        #: Loop → number of loops before it → the lengths of the texts between them, multiplied.
        products: dict[int, dict[int, int]] = {}
        worst = float(longest)
        for two in self._ordered():
            found = products.setdefault(two, {0: 1})
            for one, before in list(products.items()):
                if one != two and (length := self._shared_text(self._failing[one], self._failing[two])):
                    for number, product in before.items():
                        found[number + 1] = min(product * length, found.get(number + 1, product * length))
            for number, product in found.items():
                if number:
                    worst = max(worst, longest * (longest / number) ** number / product)
        return worst

    def _closure(self) -> list[int]:
        reached = [0] * len(self._follow)
        changed = True
        while changed:
            changed = False
            for place in reversed(range(len(reached))):
                found = reached[place]
                for after in self._follow[place]:
                    found |= reached[after] | 1 << after
                changed |= found != reached[place]
                reached[place] = found
        return reached

    def _reaches(self, one: int, two: int) -> bool:
        return bool(self._reached[one] >> two & 1)

    def _all_loops(self) -> Iterator[frozenset[int]]:
        """Yield the sets of places that are read again and again, one after the other."""
        done: set[int] = set()
        places = range(len(self._reached))
        for place in places:
            if self._reaches(place, place) and place not in done:
                loop = frozenset(one for one in places if self._reaches(place, one) and self._reaches(one, place))
                done |= loop
                yield loop

    def _ordered(self) -> list[int]:
        """Return the failing loops, each behind all from which it can be reached."""
        size = [self._reached[next(iter(loop))].bit_count() for loop in self._failing]
        return sorted(range(len(size)), key=lambda index: -size[index])

    def _is_ambiguous(self, loop: frozenset[int]) -> bool:
        if any(ways > 1 for place in loop for after, ways in self._follow[place].items() if after in loop):
            return True
        seen: set[tuple[int, ...]] = {(place, place) for place in loop}
        waiting = list(seen)
        while waiting:
            pair = waiting.pop()
            for after in self._after(pair, (loop, loop)):
                if after[0] == after[1] and pair[0] != pair[1]:
                    return True  # two ways that have parted meet again
                if after not in seen:
                    seen.add(after)
                    waiting.append(after)
        return False

    def _shared_text(self, one: frozenset[int], two: frozenset[int]) -> int:
        """Return the length of the shortest text that leads round in ``one``, from it to ``two``, and round in
        ``two``; 0 where there is none."""
        lengths = [
            length for begin in one for end in two if self._reaches(begin, end)
            if (length := self._triple(begin, end, one, two))
        ]  # fmt: skip
        return min(lengths, default=0)

    def _triple(self, begin: int, end: int, one: frozenset[int], two: frozenset[int]) -> int:
        between = {place for place in range(len(self._reached)) if self._reaches(begin, place)}
        goal: tuple[int, ...] = (begin, end, end)
        waiting: deque[tuple[tuple[int, ...], int]] = deque([((begin, begin, end), 0)])
        seen = {waiting[0][0]}
        while waiting:
            places, length = waiting.popleft()
            for after in self._after(places, (one, between, two)):
                if after == goal:
                    return length + 1
                if after not in seen:
                    seen.add(after)
                    waiting.append((after, length + 1))
        return 0

    def _after(self, places: tuple[int, ...], allowed: tuple[Any, ...]) -> Iterator[tuple[int, ...]]:
        """Yield where all of ``places`` can go by one character."""
        found: list[tuple[tuple[int, ...], int]] = [((), -1)]
        for place, inside in zip(places, allowed, strict=True):
            found = [
                ((*before, after), shared)
                for before, bits in found
                for after in self._follow[place]
                if after in inside and (shared := bits & self._reads[after])
            ]
        for after, _ in found:
            self._visit()
            yield after

    def _visit(self) -> None:
        self._visits += 1
        if self._visits > _MAX_VISITS:
            raise TooInvolvedError


def _ways(code: Any, argument: Any) -> list[Any] | None:
    """Return the parts of which one is to match; None where it is no group."""
    if code is _constants.SUBPATTERN:
        return [argument[-1]]
    if code is _constants.BRANCH:
        return list(argument[1])
    if code is _constants.GROUPREF_EXISTS:
        return [way or () for way in argument[1:]]
    return None


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


def _any_of(inner: Any, state: Any) -> int:
    """Return what an atomic part can read: any character of it."""
    if isinstance(inner, int):
        return (1 << len(_PROBES)) - 1
    bits: int = 0
    for code, argument in inner:
        if code in _CHARACTERS:
            bits |= _bits(state, code, argument)
        elif code is _constants.BRANCH:
            for way in argument[1]:
                bits |= _any_of(way, state)
        elif isinstance(argument, tuple) and isinstance(argument[-1], _parser.SubPattern):
            bits |= _any_of(argument[-1], state)
    return bits
