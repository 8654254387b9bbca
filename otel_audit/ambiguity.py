"""Tells of a regular expression whether some text could make Python's engine run for ever.

The engine backtracks: it fails only when it has tried every way to read a text. How many there are grows

- exponentially, where a loop can read the same text in two ways, as in ``(a+)+``, ``(a|aa)+``, ``(.*,)*``;
- with a power of the text's length, where loops follow each other that can read the same text, as in ``.*.*.*x``.

Both show in the automaton of the expression. Two ways to read a text are two paths in it: they are searched for in the
product of the automaton with itself (Weber and Seidl, "On the degree of ambiguity of finite automata", 1991).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Any, Final

from otel_audit.automaton import Automaton, TooInvolvedError, Work

__all__ = ["TooInvolvedError", "is_catastrophic"]

_MAX_VISITS: Final = 500_000
#: An expression may take so many steps of the engine at the worst; it does some 50 million in a second.
_MAX_STEPS: Final = 10**8


def is_catastrophic(tree: Any, longest: int) -> bool:
    """Whether a text of at most ``longest`` characters could keep the engine busy.

    Args:
        tree: what ``re``'s parser makes of the expression.
        longest: characters of the longest text that is shown to it.

    Raises:
        TooInvolvedError: it is too large to tell.
    """
    waiting, seen, visits, work = [tree], set(), count(), Work()
    while waiting:
        automaton = Automaton(waiting.pop(), work)
        for part in automaton.apart:
            if repr(part) not in seen:
                seen.add(repr(part))
                waiting.append(part)
        search = _Search(automaton, visits)
        if automaton.has_empty_rounds or search.reads_in_two_ways() or search.steps(longest) > _MAX_STEPS:
            return True
    return False


class _Search:
    """Looks for texts that an automaton can read in several ways."""

    def __init__(self, automaton: Automaton, visits: Iterator[int]) -> None:
        self._reads = automaton.reads
        self._follow = automaton.follow
        self._visits = visits
        self._known_behind: dict[int, set[int]] = {}
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

        Where one loop can take over from another at many places of a text, each of them is tried.
        """
        #: Loop → number of loops before it → the distances between such places, multiplied.
        products: dict[int, dict[int, int]] = {}
        worst = float(longest)
        for two in self._ordered():
            found = products.setdefault(two, {0: 1})
            for one, before in list(products.items()):
                if one != two and (distance := self._distance(self._failing[one], self._failing[two])):
                    for number, product in before.items():
                        found[number + 1] = min(product * distance, found.get(number + 1, product * distance))
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

    def _distance(self, one: frozenset[int], two: frozenset[int]) -> int:
        """Return the least distance of two places of one text where ``two`` can take over from ``one``; 0: there is one
        such place at most."""
        found = [
            self._distance_from(begin, end, one) for begin in one for end in two
            if self._reaches(begin, end) and self._shares_text(begin, end, one, two)
        ]  # fmt: skip
        return min(filter(None, found), default=0)

    def _shares_text(self, begin: int, end: int, one: frozenset[int], two: frozenset[int]) -> bool:
        """Whether one text leads round in ``one``, from there to ``two``, and round in ``two``."""
        between = self._behind(begin)
        start: tuple[int, ...] = (begin, begin, end)
        waiting, seen = [start], {start}
        while waiting:
            for after in self._after(waiting.pop(), (one, between, two)):
                if after == (begin, end, end):
                    return True
                if after not in seen:
                    seen.add(after)
                    waiting.append(after)
        return False

    def _distance_from(self, begin: int, end: int, one: frozenset[int]) -> int:
        """Return how far a second reader can be behind a first one that has left ``one`` at ``begin``.

        Both read the same text, and both get to ``end``. While the second is still in the loop, each step counts.
        """
        outside = self._behind(begin) - one
        waiting: deque[tuple[tuple[int, ...], bool, int]] = deque([((begin, begin), False, 0)])
        seen: set[tuple[tuple[int, ...], bool]] = set()
        while waiting:
            places, both_left, steps = waiting.popleft()
            if (places, both_left) in seen:
                continue
            seen.add((places, both_left))
            if both_left and places == (end, end):
                return steps
            for after in self._after(places, (outside, outside)) if both_left or steps else ():
                waiting.appendleft((after, True, steps))
            for after in self._after(places, (outside, one)) if not both_left else ():
                waiting.append((after, False, steps + 1))
        return 0

    def _behind(self, place: int) -> set[int]:
        self._visit()
        found = self._known_behind.get(place)
        if found is None:
            found = {other for other in range(len(self._reached)) if self._reaches(place, other)}
            self._known_behind[place] = found
        return found

    def _after(self, places: tuple[int, ...], allowed: tuple[Any, ...]) -> list[tuple[int, ...]]:
        """Return where all of ``places`` can go by one character."""
        found: list[tuple[tuple[int, ...], int]] = [((), -1)]
        for place, inside in zip(places, allowed, strict=True):
            following = [after for after in self._follow[place] if after in inside]
            found = [
                ((*before, after), shared)
                for before, bits in found
                for after in self._each(following)
                if (shared := bits & self._reads[after])
            ]
        return [after for after, _ in found]

    def _each(self, places: list[int]) -> Iterator[int]:
        for place in places:
            self._visit()
            yield place

    def _visit(self) -> None:
        if next(self._visits) > _MAX_VISITS:
            raise TooInvolvedError
