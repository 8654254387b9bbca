"""Says which rule of ``POLICY`` decides about a request, and why the others do not: ``manage.py otel_audit policy``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Final

from django.urls import Resolver404, resolve

from otel_audit.conf import conf
from otel_audit.policy import MAX_PATH, NO_REQUEST_BODY, NO_RESPONSE_BODY, REQUEST_URLS, Decision, Policy, label
from otel_audit.rules import EXCEPTIONS, MAX_BODY, Facts, Rule

__all__ = ["explain", "listed"]

_SAID: Final = {
    "sign_ins": "sign-ins",
    "denials": "denials (401, 403)",
    "errors": "errors (5xx)",
}


def listed() -> Iterator[str]:
    """Yield a line for each rule, in order, for the default policy, and for each path of the ancestor's lists."""
    for position, rule in enumerate(conf.policy.rules, 1):
        yield f"{_head(position, rule)}: {_conditions(rule) or 'everything'} → {_level(rule)}"
    yield f"default: {_default(conf.policy)}"
    for rule in conf.policy.only or ():
        yield f"{REQUEST_URLS}: {_conditions(rule) or 'everything'}"
    for name, body, rules in _bodiless(conf.policy):
        for rule in rules:
            yield f"{name}: {_conditions(rule) or 'everything'} → no {body}, whatever a rule says"


def explain(method: str, path: str, facts: Facts) -> Iterator[str]:
    """Yield, line by line, what becomes of a request.

    Args:
        method: in upper case.
        path: without query.
        facts: what is known of its response; where the route is None, it is looked up.
    """
    policy = conf.policy
    route = _route(path) if facts.route is None else facts.route
    facts = Facts(route, facts.user, facts.groups, facts.status)
    yield f"{method} {path} (route {route!r})" if route else f"{method} {path} (no route)"
    if policy.rules and len(path) > MAX_PATH:
        yield f"  The path has more than {MAX_PATH} characters: no rule is asked."
    decided = False
    for position, rule in enumerate(policy.rules, 1) if len(path) <= MAX_PATH else ():
        if decided:
            yield f"  {_head(position, rule)}: not asked, as a rule before it decides"
            continue
        said, holds = _verdict(rule, path, method, facts)
        yield f"  {_head(position, rule)}: {said}"
        decided = holds is True
    yield from _outcome(policy, path, method, facts)
    for name, body, rules in _bodiless(policy):
        if any(rule.matches(path, method) for rule in rules):
            yield f"{name} matches: no {body}, whatever a rule says."


def _verdict(rule: Rule, path: str, method: str, facts: Facts) -> tuple[str, bool | None]:
    if rule.methods and method not in rule.methods:
        return f"no, the method is none of {', '.join(sorted(rule.methods))}", False
    if rule.path is not None and rule.path.match(path) is None:
        return f"no, the path does not match {rule.path.pattern!r}", False
    answers = rule.answers(facts)
    if missed := [key for key, answer in answers if answer is False]:
        return f"no, {_and(missed)} {'does' if len(missed) == 1 else 'do'} not match", False
    if unknown := [key for key, answer in answers if answer is None]:
        options = _and([_OPTIONS[key] for key in unknown])
        return f"perhaps, it depends on {_and(unknown)} (say {options}) → {_level(rule)}", None
    return f"yes → {_level(rule)}", True


_OPTIONS: Final = {"route": "--route", "users": "--user", "groups": "--group", "status": "--status"}


def _outcome(policy: Policy, path: str, method: str, facts: Facts) -> Iterator[str]:
    """Yield what is recorded for each way it may go, and who says so."""
    asked = takewhile(lambda found: found[1].holds(facts) is not True, policy.speaking(path, method))
    open_rules = [(position, rule) for position, rule in asked if rule.holds(facts) is None]
    for position, rule in open_rules:
        yield f"If {_head(position, rule)} wins: {_recorded(policy.settle(path, method, _matching(rule, facts)))}"
    decision = policy.settle(path, method, _elsewhere(facts))
    winner = "Otherwise" if open_rules else "So"
    yield f"{winner}, by {_winner(policy, decision)}: {_recorded(decision)}"


def _matching(rule: Rule, facts: Facts) -> Facts:
    """Return facts of which ``rule`` has its own."""
    return Facts(
        facts.route,
        next(iter(rule.users), "") if rule.users is not None and facts.user is None else facts.user,
        rule.groups if rule.groups is not None and facts.groups is None else facts.groups,
        next(iter(rule.status), None) if rule.status is not None and facts.status is None else facts.status,
    )


def _elsewhere(facts: Facts) -> Facts:
    """Return facts that no rule matches which is open now."""
    return Facts(
        facts.route,
        "\0" if facts.user is None else facts.user,
        frozenset() if facts.groups is None else facts.groups,
        0 if facts.status is None else facts.status,
    )


def _winner(policy: Policy, decision: Decision) -> str:
    if decision.rule is None:
        return f"the default policy ({decision.by})" if decision.by else "the default policy"
    return _head(decision.rule, policy.rules[decision.rule - 1])


def _recorded(decision: Decision) -> str:
    if not decision.record:
        kept = [_SAID[name] for name in EXCEPTIONS if name not in decision.also_excludes]
        return f"not recorded{'' if not kept else f'; {_and(kept)} are, without bodies'}."
    bodies = [
        name
        for name, stored in (("the request body", decision.request_body), ("the response body", decision.response_body))
        if stored
    ]
    if not bodies:
        return "recorded without bodies."
    return (
        f"recorded with {_and(bodies)}, {decision.limit} bytes at most{' each' if len(bodies) > 1 else ''}, redacted."
    )


def _head(position: int, rule: Rule) -> str:
    name = label(position, rule)
    return f"rule {position} {name!r}" if rule.name else name


def _level(rule: Rule) -> str:
    said = str(rule.level)
    if rule.max_body_bytes != MAX_BODY:
        said += f", {rule.max_body_bytes} bytes of a body"
    if rule.also_excludes:
        said += f", also of {_and(sorted(rule.also_excludes))}"
    return said


def _conditions(rule: Rule) -> str:
    found = [
        f"path {rule.path.pattern!r}" if rule.path is not None else "",
        f"methods {', '.join(sorted(rule.methods))}" if rule.methods else "",
        f"route {rule.route.pattern!r}" if rule.route is not None else "",
        f"users {', '.join(name or 'nobody' for name in sorted(rule.users))}" if rule.users is not None else "",
        f"groups {', '.join(sorted(rule.groups))}" if rule.groups is not None else "",
        f"status {_codes(rule.status)}" if rule.status is not None else "",
    ]
    return ", ".join(filter(None, found))


def _codes(codes: frozenset[int]) -> str:
    classes = [first for first in range(1, 6) if codes.issuperset(range(first * 100, first * 100 + 100))]
    single = sorted(code for code in codes if code // 100 not in classes)
    return ", ".join([*(f"{first}xx" for first in classes), *map(str, single)])


def _bodiless(policy: Policy) -> tuple[tuple[str, str, tuple[Rule, ...]], ...]:
    """Return the ancestor's lists of what loses a body: setting, body, entries."""
    return (
        (NO_REQUEST_BODY, "request body", policy.no_request_body),
        (NO_RESPONSE_BODY, "response body", policy.no_response_body),
    )


def _default(policy: Policy) -> str:
    parts = [f"nothing under {policy.static_url}" if policy.static_url is not None else ""]
    parts.append(f"metadata for {_and(sorted(policy.auth_urls))}" if policy.auth_urls else "")
    parts.append(f"nothing that {REQUEST_URLS} does not match" if policy.only is not None else "")
    parts.append("for everything else request bodies, and response bodies of POST, PUT, PATCH and DELETE")
    return ", ".join(filter(None, parts))


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _route(path: str) -> str:
    try:
        return resolve(path).route or ""
    except Resolver404:
        return ""
