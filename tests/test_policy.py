"""How much of a request is recorded, and what becomes of a rule that cannot be read."""

from __future__ import annotations

import contextlib
import re
import string
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_audit import ambiguity, automaton
from otel_audit.exceptions import ConfigurationError
from otel_audit.patterns import MAX_PATTERN, compiled
from otel_audit.policy import MAX_PATH, Decision, Policy
from otel_audit.rules import MAX_BODY, Facts, Rule, parse_legacy, parse_rules

NOTHING = Decision(record=False, request_body=False, response_body=False)
METADATA = Decision(record=True, request_body=False, response_body=False)
REQUEST = Decision(record=True, request_body=True, response_body=False)
BOTH = Decision(record=True, request_body=True, response_body=True)


def policy(*rules: dict[str, Any], **others: Any) -> Policy:
    return Policy(tuple(map(Rule.parse, rules)), **others)


def legacy(*entries: Any) -> tuple[Rule, ...]:
    rules, wrong = parse_legacy(list(entries))
    assert rules is not None
    assert wrong == []
    return rules


@pytest.mark.parametrize(
    ("method", "expected"),
    [("GET", REQUEST), ("HEAD", REQUEST), ("POST", BOTH), ("PUT", BOTH), ("PATCH", BOTH), ("DELETE", BOTH)],
)
def test_by_default_request_bodies_and_response_bodies_of_unsafe_methods_are_recorded(
    method: str, expected: Decision
) -> None:
    assert policy().decide("/shop/", method) == expected


@pytest.mark.parametrize(
    ("level", "expected"),
    [("none", NOTHING), ("metadata", METADATA), ("request", REQUEST), ("request_response", BOTH)],
)
def test_a_rule_sets_its_level_for_every_method(level: str, expected: Decision) -> None:
    rules = policy({"path": "^/a/", "level": level})

    assert rules.decide("/a/b", "GET") == expected
    assert rules.decide("/a/b", "POST") == expected


def test_the_first_rule_that_matches_wins() -> None:
    rules = policy({"path": "^/a/b", "level": "none"}, {"path": "^/a/", "level": "metadata"})

    assert rules.decide("/a/b", "GET") == NOTHING
    assert rules.decide("/a/c", "GET") == METADATA


def test_a_rule_without_a_path_matches_every_path() -> None:
    rules = policy({"methods": ["GET", "head"], "level": "metadata"})

    assert rules.decide("/x", "GET") == METADATA
    assert rules.decide("/x", "HEAD") == METADATA
    assert rules.decide("/x", "POST") == BOTH


def test_a_pattern_matches_from_the_beginning_of_the_path() -> None:
    rules = policy({"path": "/health", "level": "none"})

    assert rules.decide("/health/", "GET") == NOTHING
    assert rules.decide("/api/health/", "GET") == REQUEST


def test_static_files_are_not_recorded_but_a_path_that_contains_their_word_is() -> None:
    rules = policy(static_url="/static/")

    assert rules.decide("/static/a.css", "GET") == NOTHING
    assert rules.decide("/api/static/", "GET") == REQUEST


def test_a_rule_goes_before_static_files() -> None:
    rules = policy({"path": "^/static/private/", "level": "metadata"}, static_url="/static/")

    assert rules.decide("/static/private/a", "GET") == METADATA


def test_sign_in_paths_are_recorded_without_bodies() -> None:
    rules = policy(auth_urls=frozenset({"/api/token/"}))

    assert rules.decide("/api/token/", "POST") == METADATA
    assert rules.decide("/api/token/refresh/", "POST") == BOTH


def test_the_ancestors_request_urls_leave_the_others_out() -> None:
    rules = policy(only=legacy(r"^/api/.*?/", r"^(?!/admin/jsi18n/)/admin/"))

    assert rules.decide("/api/products/", "POST") == BOTH
    assert rules.decide("/admin/users/", "GET") == REQUEST
    assert rules.decide("/admin/jsi18n/", "GET") == NOTHING
    assert rules.decide("/shop/", "GET") == NOTHING


def test_an_empty_list_of_request_urls_leaves_everything_out() -> None:
    assert policy(only=()).decide("/shop/", "GET") == NOTHING


def test_sign_in_paths_count_beside_the_ancestors_request_urls() -> None:
    rules = policy(only=legacy(r"^/api/"), auth_urls=frozenset({"/sign-in/"}))

    assert rules.decide("/sign-in/", "POST") == METADATA


@pytest.mark.parametrize(
    ("entry", "path", "method", "keeps_body"),
    [
        (r"/api/token", "/api/token/", "POST", False),
        (r"/api/token", "/api/", "POST", True),
        ({"route": r"^/api/", "method": "ALL"}, "/api/", "PUT", False),
        ({"route": r"^/api/", "method": "POST"}, "/api/", "POST", False),
        ({"route": r"^/api/", "method": "POST"}, "/api/", "PUT", True),
        ({"route": r"^/api/"}, "/api/", "PUT", False),
    ],
)
def test_the_ancestors_lists_take_bodies_away(entry: Any, path: str, method: str, keeps_body: bool) -> None:
    without_request = policy(no_request_body=legacy(entry)).decide(path, method)
    without_response = policy(no_response_body=legacy(entry)).decide(path, method)

    assert without_request == Decision(True, keeps_body, True)
    assert without_response == Decision(True, True, keeps_body)


@pytest.mark.parametrize(
    ("written", "wrong", "inside", "outside"),
    [
        ({"path": "^/a/", "level": "meta"}, "has the level 'meta'", METADATA, REQUEST),
        ({"path": "^/a/"}, "has the level None", METADATA, REQUEST),
        ({"path": "^/a/", "level": "none", "method": "GET"}, "has the unknown key 'method'", METADATA, REQUEST),
        ({"path": "^/a/", "level": "none", "methods": 3}, "has the methods 3", METADATA, REQUEST),
        ({"path": "^/a/", "level": "none", "methods": ["G T"]}, "has the method 'G T'", METADATA, REQUEST),
        ({"path": "(", "level": "none"}, "no regular expression", METADATA, METADATA),
        ({"path": 3, "level": "none"}, "has the path 3, no regular expression", METADATA, METADATA),
        ({"path": "(a+)+$", "level": "none"}, "in too many ways", METADATA, METADATA),
        ("^/a/", "is '^/a/', no dict", METADATA, METADATA),
        (None, "is None, no dict", METADATA, METADATA),
    ],
)
def test_a_rule_that_cannot_be_read_records_the_request_without_bodies(
    written: Any, wrong: str, inside: Decision, outside: Decision
) -> None:
    rules, said = parse_rules([{"path": "^/first/", "level": "none"}, written])

    assert len(said) == 1
    assert said[0].startswith("rule 2 ")
    assert wrong in said[0]
    assert Policy(rules).decide("/a/b", "GET") == inside
    assert Policy(rules).decide("/b", "GET") == outside
    assert Policy(rules).decide("/first/", "GET") == NOTHING


@pytest.mark.parametrize("written", ["^/a/", {"path": "^/a/"}, 3])
def test_a_policy_that_is_no_list_leaves_the_default(written: Any) -> None:
    rules, said = parse_rules(written)

    assert rules == ()
    assert "is no list of rules" in said[0]


@pytest.mark.parametrize("entry", ["(", 3, None, {"method": "GET"}, {"route": "^/a/", "method": 3}])
def test_an_entry_of_the_ancestors_lists_that_cannot_be_read_matches_everything(entry: Any) -> None:
    rules, said = parse_legacy(["^/a/", entry])

    assert rules is not None
    assert said[0].startswith("entry 2 ")
    assert Policy(only=rules).decide("/b/", "GET").record
    assert not Policy(no_request_body=rules).decide("/b/", "GET").request_body


def test_an_ancestors_list_that_is_none_matches_everything() -> None:
    rules, said = parse_legacy(7)

    assert rules is not None
    assert "is no list" in said[0]
    assert Policy(only=rules).decide("/b/", "GET").record


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"(a*)*",
        r"(b?a+)+",
        r"([a-z]+)*",
        r"((a+))+",
        r"(?:(?:a+)|b)+",
        r"(a{2,})+",
        r"(?=(a+)+)b",
        r"^/(.*/)*x",
        r"(\w+\s?)*$",
        r"(x[a-z]+)+",
        r"(a|b*)*",
        r"(.*?)*x",
        r"(a|aa)+$",
        r"(a|a?)+$",
        r"(a|ab|b)*c",
        r"(.*a){20}",
        r"(a?){60}a{60}",
        r"^(.*?,){11}P",
        r"(?>(a|aa)+b)",
        r"(?:(?!(a|aa)+c)x)",
        r"(é|éé)+$",
        r"([ш-я]|шш)+$",
        r"(\u0448|\u0448\u0448)+$",
        r"^(([a-z])+.)+[A-Z]([a-z])+$",
        r"(?i)(K|\u212ak?)+$",
        r".*.*.*x",
        r"^/.*/.*/.*/$",
        r"(a+|b)?(?(1)(c|cc)+$|d)",
        r"(?:(?:aa){2,}){1,3}x",
        r"(?:(?:a|.){8}){8}x",
        r"(?:(?>(?>b))\w(?:(?>[ab]))+){12}x",
        r"(?:(?:(?=a[ab])|[ab]){2,}){2}$",
    ],
)
def test_a_pattern_that_takes_exponential_time_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="in too many ways"):
        compiled(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^/api/.*?/",
        r"^(?!/admin/jsi18n/).*$",
        r"^(/[^/]+)+/?$",
        r"^/(?:[\w-]+/)*$",
        r"(x|y)*",
        r"(a+b)+",
        r"([a-z]+[0-9])*",
        r"(?>a+)+",
        r"^/\d{4}/(\d{2}/)*",
        r"^/[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}/$",
        r"^/api/.*/items/.*/lines/.*$",
        r"^/api/.*/.*/.*",
        r"([a-z]{1,63}\.)+com",
        r"(\s*\w+\s*,)+",
        r"^/(?P<lang>[a-z]+)/(?P=lang)/",
        r"^(?P<a>x)(?(a)y|z)",
        r"^/a*+b++$",
        r"a{1000}",
        r"^/(?:" + "|".join(f"page-{number}" for number in range(60)) + ")/",
        r"",
    ],
)
def test_an_ordinary_pattern_is_taken(pattern: str) -> None:
    assert compiled(pattern).pattern == pattern


@pytest.mark.parametrize(
    ("pattern", "path"),
    [(r"^/api/.*?/x$", "/api/" + "a/" * 1000), (r"^/.*/.*x$", "/" * 2000), (r"^(/[^/]+)+/?$", "/a" * 1000 + "//")],
)
def test_a_pattern_that_was_taken_is_done_soon_with_the_longest_path(pattern: str, path: str) -> None:
    rules = policy({"path": pattern, "level": "none"})
    began = time.monotonic()

    rules.decide(path, "GET")

    assert time.monotonic() - began < 2


def test_a_pattern_of_which_nothing_can_be_said_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="too involved to be shown harmless"):
        compiled("((((a{8}){8}){8}){8})")
    with pytest.raises(ConfigurationError, match="too involved to be shown harmless"):
        compiled("(" * 7 + "^" + "){8}" * 7)

    monkeypatch.setattr(ambiguity, "_MAX_VISITS", 50)
    with pytest.raises(ConfigurationError, match="too involved to be shown harmless"):
        compiled("(?:" + "|".join(f"[^{letter}]{letter}" for letter in string.ascii_letters) + ")*")


@given(st.from_regex(re.compile(r"[ab.]([ab.|*+?(){}0-3,^$]|\(\?:){0,25}")))
@settings(max_examples=200, deadline=None)
def test_every_pattern_is_taken_or_refused_soon(pattern: str) -> None:
    began = time.process_time()

    with contextlib.suppress(ConfigurationError):
        compiled(pattern)

    assert time.process_time() - began < 20


def test_a_pattern_of_a_thousand_characters_is_the_longest() -> None:
    assert compiled("a" * MAX_PATTERN)
    with pytest.raises(ConfigurationError, match="1001 characters"):
        compiled("a" * (MAX_PATTERN + 1))


def test_nobody_hides_behind_a_long_path() -> None:
    rules = policy({"path": "^/feed/", "level": "none"}, only=legacy("^/feed/"), static_url="/static/")

    assert rules.decide("/feed/".ljust(MAX_PATH, "a"), "GET") == NOTHING
    assert rules.decide("/feed/".ljust(MAX_PATH + 1, "a"), "GET") == REQUEST
    assert rules.decide("/static/".ljust(MAX_PATH + 1, "a"), "GET") == NOTHING


LATE = [
    ({"route": "^item/"}, Facts(route="item/<int:pk>/"), Facts(route="other/"), Facts()),
    ({"users": ["ada"]}, Facts(user="ada"), Facts(user="bob"), Facts()),
    ({"users": ["ada", None]}, Facts(user=""), Facts(user="anonymous"), Facts()),
    ({"groups": ["auditors", "robots"]}, Facts(groups=frozenset({"robots"})), Facts(groups=frozenset()), Facts()),
    ({"status": [404, "3xx"]}, Facts(status=301), Facts(status=200), Facts()),
    ({"status": "2XX"}, Facts(status=299), Facts(status=300), Facts()),
    ({"status": 404, "users": "ada"}, Facts(user="ada", status=404), Facts(user="ada", status=200), Facts(status=404)),
]


@pytest.mark.parametrize(("condition", "match", "miss", "unknown"), LATE)
def test_a_condition_on_the_response_is_decided_when_that_is_there(
    condition: dict[str, Any], match: Facts, miss: Facts, unknown: Facts
) -> None:
    rules = policy({"path": "^/a/", **condition, "level": "request_response"}, {"path": "^/a/", "level": "none"})

    assert not rules.decide("/a/", "GET").is_final
    assert rules.settle("/a/", "GET", match) == BOTH
    assert rules.settle("/a/", "GET", miss) == NOTHING
    assert rules.settle("/a/", "GET", unknown) == METADATA
    assert rules.decide("/b/", "GET").is_final


@pytest.mark.parametrize(
    ("late", "final", "kept"),
    [
        ("request_response", "none", BOTH),
        ("none", "request", REQUEST),
        ("metadata", "none", METADATA),
        ("none", "none", NOTHING),
    ],
)
def test_what_a_rule_may_still_ask_for_is_kept_until_then(late: str, final: str, kept: Decision) -> None:
    rules = policy({"status": ["5xx"], "level": late}, {"level": final})

    decision = rules.decide("/a/", "POST")

    assert decision == kept
    assert not decision.is_final


def test_the_default_policy_counts_where_no_rule_holds_in_the_end() -> None:
    rules = policy({"status": [404], "level": "none"}, static_url="/static/")

    assert rules.settle("/static/a.css", "GET", Facts(status=200)) == NOTHING
    assert rules.settle("/shop/", "POST", Facts(status=200)) == BOTH
    assert rules.settle("/shop/", "POST", Facts(status=404)) == NOTHING


def test_a_rule_limits_the_bytes_of_a_body() -> None:
    rules = policy({"path": "^/a/", "level": "request", "max_body_bytes": 100}, {"path": "^/b/", "level": "request"})

    assert rules.decide("/a/", "GET").limit == 100
    assert rules.decide("/b/", "GET").limit == MAX_BODY
    assert rules.decide("/c/", "GET").limit == MAX_BODY


def test_a_limit_of_nothing_takes_no_body() -> None:
    assert policy({"level": "request_response", "max_body_bytes": 0}).decide("/", "GET") == Decision(
        True, False, False, limit=0
    )


def test_the_largest_limit_that_may_count_is_kept() -> None:
    rules = policy(
        {"status": ["5xx"], "level": "request", "max_body_bytes": 500},
        {"level": "request", "max_body_bytes": 20},
    )

    assert rules.decide("/", "GET").limit == 500
    assert rules.settle("/", "GET", Facts(status=200)).limit == 20


@pytest.mark.parametrize(
    ("rules", "by"),
    [
        ([{"path": "^/x/", "level": "none"}], "rule 1"),
        ([{"path": "^/y/", "level": "none"}, {"path": "^/x/", "level": "none", "name": "feed"}], "feed"),
    ],
)
def test_an_exclusion_says_whose_it_is(rules: list[dict[str, Any]], by: str) -> None:
    assert policy(*rules).decide("/x/", "GET").by == by


def test_an_exclusion_by_the_default_policy_says_by_what() -> None:
    rules = policy(static_url="/static/", only=legacy("^/api/"))

    assert rules.decide("/static/a", "GET").by == "STATIC_URL"
    assert rules.decide("/shop/", "GET").by == "DRF_AUDIT_TRAIL_REQUEST_AUDIT_URLS"


def test_groups_are_asked_for_only_where_a_rule_that_may_win_names_some() -> None:
    rules = policy(
        {"path": "^/a/", "level": "metadata"},
        {"path": "^/[ab]/", "groups": ["auditors"], "level": "none"},
    )

    assert rules.asks_for_groups("/b/", "GET")
    assert not rules.asks_for_groups("/a/", "GET")
    assert not rules.asks_for_groups("/c/", "GET")


@pytest.mark.parametrize(
    ("condition", "wrong"),
    [
        ({"route": "("}, "has the route '(', no regular expression"),
        ({"route": "(a+)+"}, "in too many ways"),
        ({"users": {}}, "has the users {}, no list"),
        ({"users": [""]}, "has the user '', neither a name nor None"),
        ({"groups": [None]}, "has the group None"),
        ({"status": ["6xx"]}, "has the status '6xx'"),
        ({"status": [True]}, "has the status True"),
        ({"status": [99]}, "has the status 99"),
        ({"max_body_bytes": -1}, "has max_body_bytes -1"),
        ({"max_body_bytes": 65_537}, "has max_body_bytes 65537"),
        ({"max_body_bytes": True}, "has max_body_bytes True"),
        ({"also_excludes": ["everything"]}, "has also_excludes 'everything'"),
        ({"also_excludes": ["errors"], "level": "metadata"}, "has also_excludes with the level 'metadata'"),
        ({"name": ""}, "has the name ''"),
        ({"name": "é"}, "has the name 'é'"),
        ({"name": 3}, "has the name 3"),
    ],
)
def test_a_condition_that_cannot_be_read_is_named(condition: dict[str, Any], wrong: str) -> None:
    rules, (said,) = parse_rules([{"path": "^/a/", "level": "none", **condition}])

    assert said.startswith("rule 1 ")
    assert wrong in said
    assert Policy(rules).decide("/a/", "GET") == METADATA


@given(path=st.text(), method=st.text())
def test_every_request_gets_a_decision(path: str, method: str) -> None:
    rules = policy({"path": r"^/(?!api)\w+/", "methods": ["GET"], "level": "none"}, only=legacy("^/"))

    assert isinstance(rules.decide(path, method), Decision)


@pytest.mark.parametrize(
    "pattern",
    ["(?:(?:(?:(?>" + "[ab]" * 150 + ")x){8}){8}){8}", "(?>" * 150 + "[a-z][b-z][c-z]" + ")" * 150],
    ids=["written out 512 times", "nested"],
)
def test_judging_atomic_groups_looks_at_each_kind_of_character_once(
    monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    looked: list[str] = []
    look = automaton._bits
    monkeypatch.setattr(automaton, "_bits", lambda *of: (looked.append(repr(of[1:])), look(*of))[1])

    with contextlib.suppress(ConfigurationError):
        compiled(pattern)

    assert 0 < len(looked) == len(set(looked)) <= 3
