"""One rule of ``POLICY``: what is written, what it matches, what it does; and how lists of them are read.

Path and method are known when a request comes in; route, user, groups and status only when the response is there. A
rule that cannot be read is replaced by one that errs towards recording the request and against storing bodies: neither
can be made good later.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from otel_audit.exceptions import ConfigurationError
from otel_audit.patterns import compiled

__all__ = ["EXCEPTIONS", "LEVELS", "MAX_BODY", "RULE_KEYS", "Facts", "Rule", "parse_legacy", "parse_rules"]

LEVELS: Final = ("none", "metadata", "request", "request_response")
#: What is recorded although a rule says ``none``, unless the rule names it in ``also_excludes``.
EXCEPTIONS: Final = ("sign_ins", "denials", "errors")
#: The most bytes of a body that are stored, and what a rule without ``max_body_bytes`` means.
MAX_BODY: Final = 64 * 1024
RULE_KEYS: Final = (
    "path",
    "methods",
    "route",
    "users",
    "groups",
    "status",
    "level",
    "max_body_bytes",
    "also_excludes",
    "name",
)

_STATUS: Final = re.compile(r"[1-5](?:xx|[0-9]{2})", re.IGNORECASE)
_NAME: Final = re.compile(r"[ !#-\[\]-~]{1,40}")  # the books have a block of fixed size for it


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a request when its response is there; None: not known.

    ``user`` is the name of who acted, empty for nobody. ``groups`` are asked for only where a rule names some.
    """

    route: str | None = None
    user: str | None = None
    groups: frozenset[str] | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches what all its conditions match; one that is absent matches everything.

    ``level`` None means the default.
    """

    path: re.Pattern[str] | None
    methods: frozenset[str]
    level: str | None
    route: re.Pattern[str] | None = None
    users: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    status: frozenset[int] | None = None
    max_body_bytes: int = MAX_BODY
    also_excludes: frozenset[str] = frozenset()
    name: str = ""

    @classmethod
    def parse(cls, written: Any) -> Rule:
        """Build a rule from ``{"path": regex, "methods": ["GET"], "level": "metadata"}``.

        Raises:
            ConfigurationError: it is no dict, or has an unknown key or a value of no use.
        """
        if not isinstance(written, Mapping):
            raise ConfigurationError(f"is {reprlib.repr(written)}, no dict")
        for key in written:
            if key not in RULE_KEYS:
                raise ConfigurationError(f"has the unknown key {reprlib.repr(key)}")
        level = written.get("level")
        if not isinstance(level, str) or level not in LEVELS:
            raise ConfigurationError(f"has the level {reprlib.repr(level)}, none of {', '.join(LEVELS)}")
        found = {key: read(written[key]) for key, read in _READERS.items() if written.get(key) is not None}
        if found.get("also_excludes") and level != "none":
            raise ConfigurationError(f"has also_excludes with the level {level!r}, which excludes nothing")
        path = written.get("path")
        return cls(None if path is None else compiled(path), _methods(written.get("methods")), level, **found)

    @property
    def is_late(self) -> bool:
        """Whether it has a condition that only the response answers."""
        return not (self.route is None and self.users is None and self.groups is None and self.status is None)

    def matches(self, path: str, method: str) -> bool:
        """Whether its path and methods match."""
        if self.methods and method not in self.methods:
            return False
        return self.path is None or self.path.match(path) is not None

    def holds(self, facts: Facts) -> bool | None:
        """Whether its other conditions match as well; None where that cannot be said, as a fact is not known."""
        answers = [answer for _, answer in self.answers(facts)]
        return False if False in answers else None if None in answers else True

    def answers(self, facts: Facts) -> list[tuple[str, bool | None]]:
        """Return, for each of those conditions that it has, the key and whether it matches."""
        found: list[tuple[str, bool | None]] = []
        if self.route is not None:
            found.append(("route", None if facts.route is None else self.route.match(facts.route) is not None))
        if self.users is not None:
            found.append(("users", None if facts.user is None else facts.user in self.users))
        if self.groups is not None:
            found.append(("groups", None if facts.groups is None else bool(facts.groups & self.groups)))
        if self.status is not None:
            found.append(("status", None if facts.status is None else facts.status in self.status))
        return found


def parse_rules(written: Any) -> tuple[tuple[Rule, ...], list[str]]:
    """Read ``POLICY``; return its rules and what is wrong with it, by position from 1.

    A rule that cannot be read records metadata only, of every path if its path is what cannot be read.
    """
    if not isinstance(written, list | tuple):
        return (), [f"{reprlib.repr(written)} is no list of rules"]
    rules: list[Rule] = []
    wrong: list[str] = []
    for position, item in enumerate(written, 1):
        try:
            rules.append(Rule.parse(item))
        except ConfigurationError as error:
            wrong.append(f"rule {position} {error}")
            rules.append(_metadata_only(item))
    return tuple(rules), wrong


def parse_legacy(written: Any) -> tuple[tuple[Rule, ...] | None, list[str]]:
    """Read one of the ancestor's lists of URLs; return its rules and what is wrong with it, by position.

    An entry that cannot be read matches every path: more is recorded, and less of the bodies.
    """
    if written is None:
        return None, []
    if isinstance(written, str | Mapping):
        written = (written,)
    if not isinstance(written, list | tuple | set | frozenset):
        return (_EVERYTHING,), [f"{reprlib.repr(written)} is no list of regular expressions"]
    rules: list[Rule] = []
    wrong: list[str] = []
    for position, item in enumerate(written, 1):
        try:
            rules.append(_legacy_rule(item))
        except ConfigurationError as error:
            wrong.append(f"entry {position} {error}")
            rules.append(_EVERYTHING)
    return tuple(rules), wrong


_EVERYTHING: Final = Rule(None, frozenset(), None)


def _metadata_only(written: Any) -> Rule:
    try:
        return Rule.parse({"path": written["path"], "level": "metadata"})
    except (ConfigurationError, TypeError, LookupError):
        return Rule(None, frozenset(), "metadata")


def _legacy_rule(item: Any) -> Rule:
    if not isinstance(item, Mapping):
        return Rule(compiled(item), frozenset(), None)
    method = item.get("method", "ALL")
    return Rule(compiled(item.get("route")), frozenset() if method == "ALL" else _methods(method), None)


def _items(written: Any, what: str) -> list[Any]:
    """Return a list's items, or one item that stands in its place."""
    if isinstance(written, list | tuple | set | frozenset):
        return list(written)
    if isinstance(written, str | int):
        return [written]
    raise ConfigurationError(f"has the {what} {reprlib.repr(written)}, no list")


def _methods(written: Any) -> frozenset[str]:
    if written is None:
        return frozenset()
    items = (written,) if isinstance(written, str) else written
    if not isinstance(items, list | tuple | set | frozenset):
        raise ConfigurationError(f"has the methods {reprlib.repr(written)}, no list of names")
    for item in items:
        if not isinstance(item, str) or not re.fullmatch("[A-Za-z-]+", item):
            raise ConfigurationError(f"has the method {reprlib.repr(item)}, no name of a method")
    return frozenset(item.upper() for item in items)


def _users(written: Any) -> frozenset[str]:
    """Read names of users; None is nobody, which no user can be named."""
    items = _items(written, "users")
    for item in items:
        if item is not None and not (isinstance(item, str) and item):
            raise ConfigurationError(f"has the user {reprlib.repr(item)}, neither a name nor None for nobody")
    return frozenset(item or "" for item in items)


def _groups(written: Any) -> frozenset[str]:
    items = _items(written, "groups")
    for item in items:
        if not (isinstance(item, str) and item):
            raise ConfigurationError(f"has the group {reprlib.repr(item)}, no name")
    return frozenset(items)


def _status(written: Any) -> frozenset[int]:
    codes: set[int] = set()
    for item in _items(written, "status"):
        text = str(item)
        if isinstance(item, bool) or _STATUS.fullmatch(text) is None:
            raise ConfigurationError(f"has the status {reprlib.repr(item)}, neither a code such as 404 nor '4xx'")
        first = int(text[0]) * 100
        codes.update(range(first, first + 100) if text[1:].lower() == "xx" else (int(text),))
    return frozenset(codes)


def _max_body_bytes(written: Any) -> int:
    if isinstance(written, bool) or not isinstance(written, int) or not 0 <= written <= MAX_BODY:
        raise ConfigurationError(f"has max_body_bytes {reprlib.repr(written)}, no number from 0 to {MAX_BODY}")
    return written


def _also_excludes(written: Any) -> frozenset[str]:
    items = _items(written, "also_excludes")
    for item in items:
        if item not in EXCEPTIONS:
            raise ConfigurationError(f"has also_excludes {reprlib.repr(item)}, none of {', '.join(EXCEPTIONS)}")
    return frozenset(items)


def _name(written: Any) -> str:
    if not isinstance(written, str) or _NAME.fullmatch(written) is None:
        raise ConfigurationError(f"has the name {reprlib.repr(written)}, no text of 1 to 40 ASCII characters")
    return written


def _route(written: Any) -> re.Pattern[str]:
    return compiled(written, "route")


#: Key → what reads its value; ``level`` is read with the whole.
_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "route": _route,
    "users": _users,
    "groups": _groups,
    "status": _status,
    "max_body_bytes": _max_body_bytes,
    "also_excludes": _also_excludes,
    "name": _name,
}
