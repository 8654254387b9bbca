"""How much of a request is recorded: an ordered list of rules, the first match wins.

Levels, as in Kubernetes' audit policy: ``none`` < ``metadata`` < ``request`` < ``request_response``. What the rules say
is decided when the request comes in, from its path and method. Where a rule could win that asks for more, the request
is watched for whatever may still win, and decided when the response is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from otel_audit.patterns import MAX_PATH
from otel_audit.rules import MAX_BODY, Facts, Rule

__all__ = ["MAX_PATH", "NO_REQUEST_BODY", "NO_RESPONSE_BODY", "REQUEST_URLS", "STATIC", "Decision", "Policy", "label"]

UNSAFE_METHODS: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: What no link of a site has and a probe may: a dot segment, a control character. "$" matches before a line's end too.
_ODD: Final = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|\Z)|[\x00-\x1f\x7f]")

#: What is left out by the default policy, as it is counted.
STATIC: Final = "STATIC_URL"
REQUEST_URLS: Final = "DRF_AUDIT_TRAIL_REQUEST_AUDIT_URLS"
#: The ancestor's lists of what loses a body, whatever a rule says.
NO_REQUEST_BODY: Final = "DRF_AUDIT_TRAIL_NOTSAVE_REQUEST_BODY_URLS"
NO_RESPONSE_BODY: Final = "DRF_AUDIT_TRAIL_NOTSAVE_RESPONSE_BODY_URLS"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to record of one request, and who says so.

    ``limit`` is the most bytes of a body. ``also_excludes`` names the exceptions that are left out as well. ``rule`` is
    the site's rule by position, None for the default policy; ``by`` is what an exclusion is counted under. Where
    ``is_final`` is False, all that the rules may still ask for is to be kept until `Policy.settle`.
    """

    record: bool
    request_body: bool
    response_body: bool
    limit: int = MAX_BODY
    also_excludes: frozenset[str] = frozenset()
    rule: int | None = field(default=None, compare=False)
    by: str = field(default="", compare=False)
    is_final: bool = field(default=True, compare=False)

    def without_bodies(self) -> Decision:
        """Return the same for who cannot say any more what to store of the bodies."""
        return replace(self, record=True, request_body=False, response_body=False, is_final=True)


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
        """Return what to record of a request for ``path`` with ``method``, or what to keep until it can be said."""
        possible: list[Decision] = []
        for position, rule in self.speaking(path, method):
            decision = self._by_rule(position, rule, path, method)
            if not rule.is_late:
                return _any_of([*possible, decision]) if possible else decision
            possible.append(decision)
        decision = self._by_default(path, method)
        return _any_of([*possible, decision]) if possible else decision

    def settle(self, path: str, method: str, facts: Facts) -> Decision:
        """Return what to record of a request whose response is there.

        A rule whose match cannot be said, as a fact is not known, counts and records metadata only.
        """
        for position, rule in self.speaking(path, method):
            holds = rule.holds(facts)
            if holds is not False:
                decision = self._by_rule(position, rule, path, method)
                return decision if holds else decision.without_bodies()
        return self._by_default(path, method)

    def asks_for_groups(self, path: str, method: str) -> bool:
        """Whether a rule that may win depends on the groups of who acts."""
        return any(rule.groups is not None for _, rule in self.speaking(path, method))

    def speaking(self, path: str, method: str) -> list[tuple[int, Rule]]:
        """Return the rules, by position from 1, whose path and methods match, up to the first that has no other
        condition."""
        found: list[tuple[int, Rule]] = []
        # The default policy applies to a longer one, so that nobody hides behind a long path.
        if self.rules and len(path) <= MAX_PATH:
            for position, rule in enumerate(self.rules, 1):
                if rule.matches(path, method):
                    found.append((position, rule))
                    if not rule.is_late:
                        break
        return found

    def _by_rule(self, position: int, rule: Rule, path: str, method: str) -> Decision:
        request_body = rule.level in ("request", "request_response") and rule.max_body_bytes > 0
        response_body = rule.level == "request_response" and rule.max_body_bytes > 0
        return _ruled(
            position,
            label(position, rule),
            rule.max_body_bytes,
            rule.also_excludes,
            rule.level != "none" or _ODD.search(path) is not None,
            request_body and not _any(self.no_request_body, path, method),
            response_body and not _any(self.no_response_body, path, method),
        )

    def _by_default(self, path: str, method: str) -> Decision:
        if self.static_url is not None and path.startswith(self.static_url):
            return _RECORDED[False, False] if _ODD.search(path) is not None else _STATIC
        if path in self.auth_urls:
            return _RECORDED[False, False]
        if self.only is not None and len(path) <= MAX_PATH and not _any(self.only, path, method):
            return _RECORDED[False, False] if _ODD.search(path) is not None else _REQUEST_URLS
        return _RECORDED[
            not _any(self.no_request_body, path, method),
            method in UNSAFE_METHODS and not _any(self.no_response_body, path, method),
        ]


def label(position: int, rule: Rule) -> str:
    """Return the name under which a rule is counted: its own, or its place."""
    return rule.name or f"rule {position}"


_STATIC: Final = Decision(False, False, False, by=STATIC)
_REQUEST_URLS: Final = Decision(False, False, False, by=REQUEST_URLS)
_RECORDED: Final = {
    (request, response): Decision(True, request, response) for request in (False, True) for response in (False, True)
}


@lru_cache(maxsize=1024)
def _ruled(
    position: int,
    by: str,
    limit: int,
    also_excludes: frozenset[str],
    record: bool,
    request_body: bool,
    response_body: bool,
) -> Decision:
    return Decision(record, request_body, response_body, limit, also_excludes, position, by)


def _any_of(possible: list[Decision]) -> Decision:
    """Return what serves whichever of these is made in the end."""
    return Decision(
        any(decision.record for decision in possible),
        any(decision.request_body for decision in possible),
        any(decision.response_body for decision in possible),
        max(decision.limit for decision in possible),
        rule=possible[0].rule,
        by=possible[0].by,
        is_final=False,
    )


def _any(rules: tuple[Rule, ...], path: str, method: str) -> bool:
    return bool(rules) and any(rule.matches(path, method) for rule in rules)
