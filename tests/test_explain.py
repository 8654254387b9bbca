"""``manage.py otel_audit policy`` says which rule decides about a request, and why."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

RULES: list[dict[str, Any]] = [
    {"path": "^/feed/", "methods": ["GET"], "level": "none", "name": "feed"},
    {"route": "^item/", "users": ["robot", None], "level": "metadata"},
    {"status": ["5xx", 404], "level": "request_response"},
    {"path": "^/probe/", "level": "none", "also_excludes": ["denials", "errors", "sign_ins"]},
    {"path": "^/item/", "level": "request", "max_body_bytes": 100},
    {"groups": ["staff"], "level": "request"},
]

pytestmark = pytest.mark.urls("tests.requests.urls")


def policy(*arguments: str, rules: list[dict[str, Any]] = RULES, **others: Any) -> list[str]:
    """Run the command; return its lines."""
    out = io.StringIO()
    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "POLICY": rules, **others}):
        call_command("otel_audit", "policy", *arguments, stdout=out, no_color=True)
    return out.getvalue().splitlines()


def test_the_rules_are_listed_in_order_before_the_default() -> None:
    assert policy(AUTH_URLS=["/sign-in/"]) == [
        "rule 1 'feed': path '^/feed/', methods GET → none",
        "rule 2: route '^item/', users nobody, robot → metadata",
        "rule 3: status 5xx, 404 → request_response",
        "rule 4: path '^/probe/' → none, also of denials, errors and sign_ins",
        "rule 5: path '^/item/' → request, 100 bytes of a body",
        "rule 6: groups staff → request",
        "default: nothing under /static/, metadata for /sign-in/, for everything else request bodies, and response "
        "bodies of POST, PUT, PATCH and DELETE",
    ]


OLD = {
    "DRF_AUDIT_TRAIL_REQUEST_AUDIT_URLS": ["^/item/"],
    "DRF_AUDIT_TRAIL_NOTSAVE_REQUEST_BODY_URLS": ["^/item/1/", {"route": "^/item/2/", "method": "POST"}],
    "DRF_AUDIT_TRAIL_NOTSAVE_RESPONSE_BODY_URLS": ["^/item/"],
}


def test_the_paths_of_the_old_settings_are_listed() -> None:
    with override_settings(**OLD):
        listed = policy(rules=[])

    assert listed[1:] == [
        "DRF_AUDIT_TRAIL_REQUEST_AUDIT_URLS: path '^/item/'",
        "DRF_AUDIT_TRAIL_NOTSAVE_REQUEST_BODY_URLS: path '^/item/1/' → no request body, whatever a rule says",
        "DRF_AUDIT_TRAIL_NOTSAVE_REQUEST_BODY_URLS: path '^/item/2/', methods POST → no request body, whatever a rule "
        "says",
        "DRF_AUDIT_TRAIL_NOTSAVE_RESPONSE_BODY_URLS: path '^/item/' → no response body, whatever a rule says",
    ]


def test_an_old_setting_that_takes_a_body_is_named() -> None:
    with override_settings(**OLD):
        explained = policy("--explain", "PUT", "/item/2/", rules=[])

    assert explained[1:] == [
        "So, by the default policy: recorded with the request body, 65536 bytes at most, redacted.",
        "DRF_AUDIT_TRAIL_NOTSAVE_RESPONSE_BODY_URLS matches: no response body, whatever a rule says.",
    ]


def test_the_rule_that_decides_ends_the_explanation() -> None:
    assert policy("--explain", "get", "/feed/?page=2") == [
        "GET /feed/ (no route)",
        "  rule 1 'feed': yes → none",
        *(f"  rule {number}: not asked, as a rule before it decides" for number in range(2, 7)),
        "So, by rule 1 'feed': not recorded; sign-ins, denials (401, 403) and errors (5xx) are, without bodies.",
    ]


def test_what_only_the_response_tells_is_left_open() -> None:
    assert policy("--explain", "POST", "/item/7/", "--user", "ada") == [
        "POST /item/7/ (route 'item/<int:pk>/')",
        "  rule 1 'feed': no, the method is none of GET",
        "  rule 2: no, users does not match",
        "  rule 3: perhaps, it depends on status (say --status) → request_response",
        "  rule 4: no, the path does not match '^/probe/'",
        "  rule 5: yes → request, 100 bytes of a body",
        "  rule 6: not asked, as a rule before it decides",
        "If rule 3 wins: recorded with the request body and the response body, 65536 bytes at most each, redacted.",
        "Otherwise, by rule 5: recorded with the request body, 100 bytes at most, redacted.",
    ]


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (["GET", "/item/7/", "--user", ""], "So, by rule 2: recorded without bodies."),
        (
            ["GET", "/item/7/", "--user", "x", "--status", "503"],
            "So, by rule 3: recorded with the request body and the response body, 65536 bytes at most each, redacted.",
        ),
        (["GET", "/probe/", "--status", "200"], "So, by rule 4: not recorded."),
        (
            ["GET", "/x/", "--status", "200", "--group", "a", "--group", "staff"],
            "So, by rule 6: recorded with the request body, 65536 bytes at most, redacted.",
        ),
        (
            ["GET", "/static/a", "--status", "200", "--group", "a"],
            "So, by the default policy (STATIC_URL): not recorded; sign-ins, denials (401, 403) and errors (5xx) are, "
            "without bodies.",
        ),
        (
            ["GET", "/x/", "--status", "200", "--group", "a"],
            "So, by the default policy: recorded with the request body, 65536 bytes at most, redacted.",
        ),
        (
            ["GET", "/x/", "--route", "item/", "--user", "robot"],
            "So, by rule 2: recorded without bodies.",
        ),
    ],
)
def test_the_last_line_says_what_is_recorded(arguments: list[str], last: str) -> None:
    assert policy("--explain", *arguments)[-1] == last


def test_a_long_path_is_said_to_be_shown_to_no_rule() -> None:
    lines = policy("--explain", "GET", "/feed/" + "x" * 3000)

    assert lines[1:] == [
        "  The path has more than 2048 characters: no rule is asked.",
        "So, by the default policy: recorded with the request body, 65536 bytes at most, redacted.",
    ]


def test_without_rules_the_default_policy_decides() -> None:
    assert policy("--explain", "POST", "/x/", rules=[])[-1] == (
        "So, by the default policy: recorded with the request body and the response body, 65536 bytes at most each, "
        "redacted."
    )
