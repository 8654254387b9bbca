"""How much of a request is recorded: an ordered list of rules, the first match wins.

Levels, as in Kubernetes' audit policy: ``none`` < ``metadata`` < ``request`` < ``request_response``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from otel_audit.exceptions import ConfigurationError

__all__ = ["LEVELS", "Decision", "Policy", "Rule"]

LEVELS: Final = ("none", "metadata", "request", "request_response")
UNSAFE_METHODS: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_RULE_KEYS: Final = frozenset({"path", "methods", "level"})


@dataclass(frozen=True, slots=True)
class Decision:
    """What to record of one request."""

    record: bool
    request_body: bool
    response_body: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches a path (``re.match``) and methods (empty: all); ``level`` None leaves it to the default policy."""

    path: re.Pattern[str] | None
    methods: frozenset[str]
    level: str | None

    @classmethod
    def parse(cls, written: Mapping[str, Any]) -> Rule:
        """Build a rule from ``{"path": regex, "methods": ["GET"], "level": "metadata"}``.

        Raises:
            ConfigurationError: an unknown key or level, or a pattern that is no regular expression.
        """
        for key in written:
            if key not in _RULE_KEYS:
                raise ConfigurationError(f"a POLICY rule has the unknown key {key!r}; write one of {sorted(_RULE_KEYS)}.")
        level = written.get("level")
        if level not in LEVELS:
            raise ConfigurationError(f"a POLICY rule has the level {level!r}; write one of {list(LEVELS)}.")
        path = written.get("path")
        try:
            pattern = None if path is None else re.compile(path)
        except (re.error, TypeError) as error:
            raise ConfigurationError(f"a POLICY rule has the path {path!r}, no regular expression: {error}.") from error
        methods = written.get("methods") or ()
        if isinstance(methods, str):
            methods = (methods,)
        return cls(pattern, frozenset(method.upper() for method in methods), level)

    def matches(self, path: str, method: str) -> bool:
        """Whether this rule speaks of a request."""
        if self.methods and method not in self.methods:
            return False
        return self.path is None or self.path.match(path) is not None


@dataclass(frozen=True, slots=True)
class Policy:
    """The site's rules, then the default: request bodies always, response bodies of unsafe methods, static files none."""

    rules: tuple[Rule, ...]
    no_request_body: tuple[Rule, ...]
    no_response_body: tuple[Rule, ...]
    only: tuple[Rule, ...] | None
    static_url: str | None

    @classmethod
    def build(
        cls,
        rules: Sequence[Rule],
        *,
        request_urls: Any = None,
        no_request_body: Any = (),
        no_response_body: Any = (),
        static_url: str | None = None,
    ) -> Policy:
        """Build a policy from rules and the ancestor's URL settings (regexes for ``re.match``)."""
        return cls(
            tuple(rules),
            tuple(_legacy_rule(item) for item in _as_sequence(no_request_body)),
            tuple(_legacy_rule(item) for item in _as_sequence(no_response_body)),
            None if request_urls is None else tuple(_legacy_rule(item) for item in _as_sequence(request_urls)),
            static_url if static_url and static_url.startswith("/") and static_url != "/" else None,
        )

    def decide(self, path: str, method: str) -> Decision:
        """Return what to record of a request for ``path`` with ``method``."""
        level = self._level(path, method)
        request_body = level in ("request", "request_response") or level is None
        response_body = level == "request_response" or (level is None and method in UNSAFE_METHODS)
        return Decision(
            record=level != "none",
            request_body=request_body and not any(rule.matches(path, method) for rule in self.no_request_body),
            response_body=response_body and not any(rule.matches(path, method) for rule in self.no_response_body),
        )

    def _level(self, path: str, method: str) -> str | None:
        for rule in self.rules:
            if rule.matches(path, method):
                return rule.level
        if self.static_url is not None and path.startswith(self.static_url):
            return "none"
        if self.only is not None and not any(rule.matches(path, method) for rule in self.only):
            return "none"
        return None


def _legacy_rule(item: Any) -> Rule:
    if isinstance(item, str):
        return Rule(re.compile(item), frozenset(), None)
    written = dict(item)
    method = written.get("method", "ALL")
    methods = frozenset() if method == "ALL" else frozenset({method})
    return Rule(re.compile(written["route"]), methods, None)


def _as_sequence(value: Any) -> Sequence[Any]:
    return (value,) if isinstance(value, str) else tuple(value or ())
