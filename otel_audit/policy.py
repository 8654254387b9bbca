"""How much of a request is recorded: an ordered list of rules, the first match wins.

Levels, as in Kubernetes' audit policy: ``none`` < ``metadata`` < ``request`` < ``request_response``. A rule
that cannot be read is replaced by one that errs towards recording the request and against storing bodies:
neither can be made good later.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from otel_audit.exceptions import ConfigurationError
from otel_audit.patterns import compiled

__all__ = ["LEVELS", "MAX_PATH", "Decision", "Policy", "Rule", "parse_legacy", "parse_rules"]

LEVELS: Final = ("none", "metadata", "request", "request_response")
UNSAFE_METHODS: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: A longer path is not shown to any pattern, as a regex may take time in the square of its length. The
#: default policy applies to it, so that nobody hides behind a long path.
MAX_PATH: Final = 2048
#: What no link of a site has and a probe may: a dot segment, a control character. "$" matches before a line's end too.
_ODD: Final = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|\Z)|[\x00-\x1f\x7f]")
_RULE_KEYS: Final = ("path", "methods", "level")


@dataclass(frozen=True, slots=True)
class Decision:
    """What to record of one request."""

    record: bool
    request_body: bool
    response_body: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches a path (``re.match``; None: all) and methods (empty: all); ``level`` None means the default."""

    path: re.Pattern[str] | None
    methods: frozenset[str]
    level: str | None

    @classmethod
    def parse(cls, written: Any) -> Rule:
        """Build a rule from ``{"path": regex, "methods": ["GET"], "level": "metadata"}``.

        Raises:
            ConfigurationError: it is no dict, or has an unknown key, level or method, or a pattern of no use.
        """
        if not isinstance(written, Mapping):
            raise ConfigurationError(f"is {reprlib.repr(written)}, no dict")
        for key in written:
            if key not in _RULE_KEYS:
                raise ConfigurationError(f"has the unknown key {reprlib.repr(key)}")
        level = written.get("level")
        if not isinstance(level, str) or level not in LEVELS:
            raise ConfigurationError(f"has the level {reprlib.repr(level)}, none of {', '.join(LEVELS)}")
        path = written.get("path")
        return cls(None if path is None else compiled(path), _methods(written.get("methods")), level)

    def matches(self, path: str, method: str) -> bool:
        """Whether this rule speaks of a request."""
        if self.methods and method not in self.methods:
            return False
        return self.path is None or self.path.match(path) is not None


@dataclass(frozen=True, slots=True)
class Policy:
    """The site's rules, then the default: request bodies, response bodies of unsafe methods, no static files.

    Args:
        rules: the site's own, in order.
        auth_urls: paths of sign-in views: metadata only.
        static_url: what lies under it is not recorded; None where it is not a path of this site.
        only: the ancestor's list of what is recorded at all; None: everything.
        no_request_body: the ancestor's list of requests whose body is not stored.
        no_response_body: the same for responses.
    """

    rules: tuple[Rule, ...] = ()
    auth_urls: frozenset[str] = frozenset()
    static_url: str | None = None
    only: tuple[Rule, ...] | None = None
    no_request_body: tuple[Rule, ...] = ()
    no_response_body: tuple[Rule, ...] = ()

    def decide(self, path: str, method: str) -> Decision:
        """Return what to record of a request for ``path`` with ``method``."""
        level = self._level(path, method)
        if level == "none":
            return _RECORDED[False, False] if _ODD.search(path) is not None else _NOTHING
        if level is not None:
            request_body, response_body = (
                level in ("request", "request_response"),
                level == "request_response",
            )
        else:
            request_body, response_body = True, method in UNSAFE_METHODS
        return _RECORDED[
            request_body and not _any(self.no_request_body, path, method),
            response_body and not _any(self.no_response_body, path, method),
        ]

    def has_rule(self, path: str, method: str) -> bool:
        """Whether one of the site's own rules speaks of a request."""
        return len(path) <= MAX_PATH and _any(self.rules, path, method)

    def _level(self, path: str, method: str) -> str | None:
        if len(path) <= MAX_PATH:
            for rule in self.rules:
                if rule.matches(path, method):
                    return rule.level
        if self.static_url is not None and path.startswith(self.static_url):
            return "none"
        if path in self.auth_urls:
            return "metadata"
        if self.only is not None and len(path) <= MAX_PATH and not _any(self.only, path, method):
            return "none"
        return None


_NOTHING: Final = Decision(record=False, request_body=False, response_body=False)
_RECORDED: Final = {
    (request, response): Decision(True, request, response) for request in (False, True) for response in (False, True)
}


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


def _any(rules: tuple[Rule, ...], path: str, method: str) -> bool:
    return bool(rules) and any(rule.matches(path, method) for rule in rules)
