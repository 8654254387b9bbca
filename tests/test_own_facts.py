"""Facts of ours beside what the site says about a request."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from otel_audit.conf import conf
from otel_audit.own_facts import MAX_HEADER, add_own, untrusted_headers

FORWARDED_FOR, FORWARDED = "audit.untrusted.x-forwarded-for", "audit.untrusted.forwarded"
PROXIES = {"DATABASE": "audit", "TRUSTED_PROXIES": ["10.0.0.0/8"]}


@pytest.fixture(autouse=True)
def _nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_audit.own_facts._warned", set())


@pytest.mark.parametrize(
    ("forwarded_for", "forwarded", "expected"),
    [
        (None, None, {}),
        ("", "", {}),
        ("203.0.113.9, 10.0.0.1:80", None, {FORWARDED_FOR: "203.0.113.9, 10.0.0.1:80"}),
        (None, "for=[::1]:80;by=_x", {FORWARDED: "for=[::1]:80;by=_x"}),
        ("unknown", "for=unknown", {FORWARDED_FOR: "unknown", FORWARDED: "for=unknown"}),
        ("token=hunter2hunter2", None, {FORWARDED_FOR: "token=[redacted]"}),
        ("Bearer " + "a" * 40, None, {FORWARDED_FOR: "Bearer [redacted]"}),
    ],
)
def test_headers_are_kept_as_they_came_without_secrets(
    forwarded_for: str | None, forwarded: str | None, expected: dict[str, str]
) -> None:
    assert untrusted_headers(forwarded_for, forwarded, conf.redactor) == expected


@pytest.mark.parametrize("length", [MAX_HEADER - 9, 5000, 1_000_000])
def test_long_header_keeps_the_end_at_which_proxies_append(length: int) -> None:
    kept = untrusted_headers("a" * length + ",10.0.0.1", None, conf.redactor)[FORWARDED_FOR]

    assert kept.endswith("a,10.0.0.1")
    assert (len(kept), kept[0]) == ((MAX_HEADER, "a") if length < MAX_HEADER else (MAX_HEADER + 1, "…"))


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (None, {"a": 1}),
        ({}, {"a": 1}),
        ({"a": 2, "b": 3}, {"a": 1, "b": 3}),
        ("text", {"extra_informations": "text", "a": 1}),
        ([], {"extra_informations": [], "a": 1}),
    ],
)
def test_own_facts_stand_beside_those_of_the_site(extra: Any, expected: dict[str, Any]) -> None:
    facts = {"extra": extra}

    add_own(facts, {"a": 1})

    assert facts == {"extra": expected}


def test_log_says_once_that_headers_are_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    untrusted_headers(None, None, conf.redactor)
    with override_settings(OTEL_AUDIT=PROXIES):
        untrusted_headers("203.0.113.9", None, conf.redactor)
    assert caplog.text == ""

    for header in ("203.0.113.9", "203.0.113.10"):
        untrusted_headers(header, None, conf.redactor)
        untrusted_headers(None, f"for={header}", conf.redactor)

    assert caplog.text.count("arrive with X-Forwarded-For, and OTEL_AUDIT has no TRUSTED_PROXIES") == 1
    assert caplog.text.count("TRUSTED_PROXIES to its network") == 1
