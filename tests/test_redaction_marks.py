"""A keyed mark stands for one value, however that was written and whatever its type."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_audit import own_redaction
from otel_audit.conf import conf
from otel_audit.floods import Flood
from otel_audit.redaction import MASK, Marker, Redactor, is_mark, sensitive
from otel_audit.redaction.sensitive import MARKED
from tests.test_redaction_properties import CANARY, STYLES, planted

OLD, NEW = b"o" * 32, b"n" * 32
marker = Marker({"k2": NEW, "k1": OLD})
redactor = Redactor(["national_id"], marker)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.c2lnbmF0dXJl"


def mark(secret: str) -> str:
    """Return the mark of a secret by the key in use."""
    return marker.all(secret)[0]


def stored(text: str, content_type: str) -> str:
    """Return what is stored of a body."""
    raw = text.encode()
    body = redactor.body(raw, content_type, total_size=len(raw), sha256=None, truncated=False)
    assert body.text is not None
    return body.text


PLACES: list[tuple[str, Any, str]] = [
    ("json", stored('{"pin": "4711", "a": 1}', "application/json"), "4711"),
    ("json number", stored('{"pin": 4711, "a": 1}', "application/json"), "4711"),
    ("json in json", stored(json.dumps({"a": json.dumps({"password": 'x"\\y'})}), "application/json"), 'x"\\y'),
    ("escaped", stored('{"password": "\\u00e4\\/b"}', "application/json"), "ä/b"),
    ("list", stored('{"tokens": ["a",  "b"]}', "application/json"), '["a","b"]'),
    ("form", stored("pin=4711&a=1", "application/x-www-form-urlencoded"), "4711"),
    ("form, encoded", stored("password=a%26b+c&a=1", "application/x-www-form-urlencoded"), "a&b c"),
    ("form without equals", stored(f"{JWT}&a=1", "application/x-www-form-urlencoded"), JWT),
    ("multipart", stored('--B\r\nContent-Disposition: form-data; name="pin"\r\n\r\n4711\r\n--B--',
                         "multipart/form-data; boundary=B"), "4711"),
    ("xml", stored("<a><password>x&amp;y</password></a>", "text/xml"), "x&y"),
    ("xml attribute", stored('<add key="DbPassword" value="x"/>', "text/xml"), "x"),
    ("xml neighbour", stored("<key>password</key><string>x</string>", "text/xml"), "x"),
    ("xml text", stored('<property name="password">x y</property>', "text/xml"), "x y"),
    ("yaml", stored("db:\n  password:\n    x\na: 1", "application/yaml"), "x"),
    ("yaml at the end", stored("password: |\n  x\n  y", "application/yaml"), "x\ny"),
    ("named", stored('[{"name": "password", "value": "x"}]', "application/json"), "x"),
    ("query", redactor.query("national-id=1+2&b=3"), "1 2"),
    ("oauth", redactor.query("code=abcdefgh&state=ijklmnop"), "abcdefgh"),
    ("oauth in text", redactor.text("see https://x/cb?code=abcdefgh&state=ijklmnop."), "abcdefgh"),
    ("header", redactor.headers({"X-Api-Key": "k"})["X-Api-Key"], "k"),
    ("route", redactor.route("/reset/abc/", "reset/<token>/", {"token": "abc"}), "abc"),
    ("object", redactor.value({"pin": 4711})["pin"], "4711"),
    ("object, one of a list", redactor.value({"pin": ["4711"]})["pin"], "4711"),
    ("object, dict", redactor.value({"token": {"b": 1, "a": 2}})["token"], '{"a":2,"b":1}'),
    ("object, bytes", redactor.value({"pin": b"4711"})["pin"], "4711"),
    ("object, number of a card", redactor.value({"n": 4111111111111111})["n"], "4111111111111111"),
    ("text", redactor.text("password: two words"), "two words"),
    ("bearer", redactor.text(f"Authorization: Bearer {JWT}"), JWT),
    ("jwt", redactor.text(f"see {JWT}."), JWT),
    ("card", redactor.text("card 4111 1111 1111 1111."), "4111-1111-1111-1111"),
    ("card in json", stored('{"n": 4111111111111111}', "application/json"), "4111111111111111"),
    ("user info", redactor.text("postgres://u:pw@h/d"), "pw"),
    ("user info, cut", redactor.text("postgres://u:pwpwpw"), "pwpwpw"),
    ("user token", redactor.text("https://ghs0123456789012345678901@h/"), "ghs0123456789012345678901"),
    ("sql", redactor.text("ALTER USER a PASSWORD 'x y'"), "x y"),
    ("option", redactor.text("run --api-token abc now"), "abc"),
    ("key", redactor.text("AKIAIOSFODNN7EXAMPLE"), "AKIAIOSFODNN7EXAMPLE"),
    ("duplicate", redactor.text("Duplicate entry 'abc' for key 'api_key'"), "abc"),
    ("pem", redactor.text("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"),
     "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"),
]  # fmt: skip


@pytest.mark.parametrize(("kept", "secret"), [case[1:] for case in PLACES], ids=[case[0] for case in PLACES])
def test_who_knows_the_value_finds_its_mark(kept: Any, secret: str) -> None:
    assert mark(secret) in kept
    assert MASK not in kept


def test_the_first_key_marks_and_all_are_looked_for() -> None:
    before = Redactor(marker=Marker({"k1": OLD})).value({"pin": 4711})["pin"]

    assert before in marker.all("4711")
    assert redactor.value({"pin": 4711})["pin"] != before
    assert [one.split(":")[1] for one in marker.all("4711")] == ["k2", "k1"]


def test_a_mark_is_of_its_key_and_value_alone() -> None:
    assert len({*marker.all("4711"), *marker.all("4712")}) == 4
    assert all(map(is_mark, marker.all("4711")))
    assert Marker().all("4711") == []
    assert not is_mark("[redacted:k1:short]")


@pytest.mark.parametrize(
    "text", ['{{"password": "{}"}}', "password={}", "password: {}", '{{"pin": {}}}', "<pin>{}</pin>"]
)
def test_what_only_begins_like_a_mark_is_masked(text: str) -> None:
    for redact in (Redactor(), redactor):
        assert "hunter2" not in redact.text(text.format("[redacted:hunter2]"))
        assert "hunter2" not in redact.text(text.format("[redacted]hunter2"))


@given(planted(), STYLES)
@settings(max_examples=100, deadline=None)
def test_planted_secret_never_survives_under_a_key_and_is_marked_once(document: Any, style: dict[str, Any]) -> None:
    raw = json.dumps(document, **style)

    once = stored(raw, "application/json")

    assert CANARY not in once
    assert stored(once, "application/json") == once


@given(st.text(max_size=40))
def test_a_mark_can_be_made_of_any_text(secret: str) -> None:
    assert is_mark(mark(secret))
    assert mark(secret) == mark(json.dumps(secret)[1:-1])


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda text: text != MASK))
def test_a_value_of_a_query_has_the_mark_of_its_value(secret: str) -> None:
    assert redactor.query(f"password={quote(secret)}") == f"password={mark(secret)}"


def printed(monkeypatch: pytest.MonkeyPatch, typed: str) -> list[str]:
    """Return what the command prints for what it is given."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    call_command("otel_audit", "mark", stdout=out)
    return out.getvalue().split()


def test_the_command_prints_the_marks_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"k2": "n" * 32, "k1": "o" * 32}

    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "REDACT": {"hmac": keys}}):
        assert printed(monkeypatch, "4711\n") == marker.all("4711")
        assert conf.redactor.value({"pin": 4711}) == {"pin": mark("4711")}


def test_the_command_says_when_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="There is no key"):
        printed(monkeypatch, "4711")


# ── the site's own ──────────────────────────────────────────────────────────────────────────────


def own(text: str) -> Any:
    """A site's redaction."""
    if "boom" in text:
        raise RuntimeError(text)
    return 3 if "three" in text else text.replace("Kaiser", "[name]")


@pytest.fixture(params=[own, f"{__name__}.own"], ids=["function", "path"])
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redactor]:
    """The redactor of a site that has one."""
    monkeypatch.setattr(own_redaction, "_flood", Flood())
    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "REDACT": {"names": ["ssn"], "callable": request.param}}):
        yield conf.redactor


def test_every_text_goes_through_the_sites_own_redaction(site: Redactor) -> None:
    raw = b'{"name": "Kaiser", "ssn": 1}'

    body = site.body(raw, "application/json", total_size=len(raw), sha256=None, truncated=False)

    assert (body.text, body.changed) == (f'{{"name": "[name]", "ssn": "{MASK}"}}', ("redacted",))
    assert site.text("Kaiser") == "[name]"
    assert site.query("q=Kaiser") == "q=[name]"
    assert site.value({"a": ["Kaiser", 1], "Kaiser": 2}) == {"a": ["[name]", 1], "Kaiser": 2}
    assert site.route("/u/Kaiser/", "u/<name>/", {"name": "Kaiser"}) == "/u/[name]/"
    assert site.headers({"X-Name": "Kaiser"}) == {"X-Name": "[name]"}


@pytest.mark.parametrize(("text", "said"), [("boom x", "raised RuntimeError"), ("three", "returned a int, no text")])
def test_where_that_fails_the_whole_text_is_masked_and_it_is_said_once(
    site: Redactor, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    with caplog.at_level(logging.ERROR):
        masked = [site.text(text), site.query(text), site.value([text])[0]]

    assert masked == [MASK] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"The callable of OTEL_AUDIT['REDACT'] {said} (1 times); the whole text is masked."
    ]


def test_a_callable_that_cannot_be_imported_masks_everything(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(OTEL_AUDIT={"REDACT": {"callable": "nowhere.redact"}}):
        assert conf.redactor.text("Kaiser") == MASK


# ── marked where they are defined ───────────────────────────────────────────────────────────────


def test_fields_marked_sensitive_are_masked_in_any_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MARKED, "names", MARKED.names)
    before = conf.redactor.text('{"diagnosis": "x"}')

    @sensitive("diagnosis", "net_salary")
    class Patient:
        pass

    masked = conf.redactor.text('{"diagnosis": "x", "netSalary": 5}')

    assert Patient.__name__ == "Patient"
    assert before == '{"diagnosis": "x"}'
    assert masked == f'{{"diagnosis": "{MASK}", "netSalary": "{MASK}"}}'
