"""Secrets that stand beside their names, below them, or in a column of their own."""

from __future__ import annotations

import json
import time

import pytest

from otel_audit.redaction import MASK, Redactor

redactor = Redactor()
SECRET = "hunter2"

JSON = "application/json"
XML = "application/xml"
YAML = "application/yaml"


def stored(text: str, content_type: str) -> str:
    raw = text.encode()
    return redactor.body(raw, content_type, total_size=len(raw), sha256=None, truncated=False).text or ""


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ('[{"name": "user", "value": "ada"}, {"name": "password", "value": "hunter2"}]', JSON),
        ('{"value": "hunter2", "name": "password"}', JSON),
        ('{"value": "hunter2", "type": "text", "name": "password"}', JSON),
        ('{"key":"db_password","type":"secret","n":1,"value":"hunter2"}', JSON),
        ('{"field": "pin", "new_value": "hunter2", "n": 1}', JSON),
        ('[{"op": "replace", "path": "/users/1/password", "value": "hunter2"}]', JSON),
        (json.dumps({"body": json.dumps([{"name": "password", "value": "hunter2"}])}), JSON),
        ('{"headers": [["Host", "x"], ["Authorization", "Custom hunter2"]]}', JSON),
        ('[["token", "hunter2"]]', JSON),
        ("password:\n  hunter2\nuser: ada\n", YAML),
        ("db:\n  password: >-\n    hunter2\n  user: ada\n", YAML),
        ("db:\n- secret: |\n    x\n\n    hunter2\n  user: ada\n", YAML),
        ('<property name="password">hunter2</property>', XML),
        ('<a><entry key="api.token">hunter2</entry><b>ada</b></a>', XML),
        ("<dict><key>password</key><string>hunter2</string></dict>", XML),
        ("<member><name>password</name><value><string>hunter2</string></value></member>", XML),
        ("user;password\nada;hunter2\n", "text/csv"),
        ('{"old_pass": "hunter2", "otp_code": "hunter2", "2fa_code": "hunter2", "passkey": "hunter2"}', JSON),
    ],
)
def test_value_beside_the_name_of_a_secret_is_masked(text: str, content_type: str) -> None:
    found = stored(text, content_type)

    assert SECRET not in found
    assert MASK in found or found.startswith("[text/csv")


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ('{"fields": ["password", "email"], "name": "password", "label": "Password"}', JSON),
        ('[{"name": "user", "value": "ada"}]', JSON),
        ('{"name": "token_type", "value": "bearer"}', JSON),
        ('{"name": "password"}, {"value": "ada"}', JSON),
        ("users:\n  - name: ada\n", YAML),
        ('<property name="colour">green</property><key>colour</key><string>green</string>', XML),
        ("user;colour\nada;green\n", "text/csv"),
    ],
)
def test_what_stands_beside_other_names_stays(text: str, content_type: str) -> None:
    assert stored(text, content_type) == text


@pytest.mark.parametrize(
    ("part", "content_type"),
    [
        ('[["password",', JSON),
        ('value":"name":"pin"}', JSON),
        ('"name":"token","a":1,', JSON),
        ("pin:\n", YAML),
        ('<a name="pin">', XML),
    ],
)
def test_hostile_text_takes_linear_time(part: str, content_type: str) -> None:
    def fastest(size: int) -> float:
        text = part * (size // len(part))
        return min(_seconds(text, content_type) for _ in range(5))

    # Four times the text; sixteen times the time would be quadratic, five thousandths of a second are noise.
    assert fastest(64_000) < 12 * fastest(16_000) + 0.2


def _seconds(text: str, content_type: str) -> float:
    begin = time.process_time()
    stored(text, content_type)
    return time.process_time() - begin


@pytest.mark.parametrize(
    "text",
    [
        "ALTER USER ada WITH PASSWORD 'hunter2'",
        "CREATE USER ada IDENTIFIED BY 'hunter2'",
        "Invalid password 'hunter2' for user ada",
        "Command '['mysqldump', '--password', 'hunter2', '-u', 'ada']' returned non-zero exit status 2.",
        "mysqldump --db-password hunter2 shop",
        "restic --api-key=hunter2",
        "https://x0hunter2aaaaaaaaaaaaaa@github.com/shop.git",
        "https://hooks.slack.com/services/T0000/B0000/hunter2",
        "https://discord.com/api/webhooks/123/hunter2",
        "https://api.telegram.org/bot123456789:hunter2aaaaaaaaaaaaaaaaaaaaaaaaaaa/send",
    ],
)
def test_secret_behind_its_name_or_in_an_address_is_masked(text: str) -> None:
    assert SECRET not in redactor.text(text)
    assert SECRET not in redactor.text("x" * 400 + " " + text)


@pytest.mark.parametrize(
    "text",
    [
        "--verbose shop",
        "https://ada@example.com/",
        "ssh://git@github.com/",
        "the password 'field' is required"[:12],
        "a --key",
    ],
)
def test_text_without_secrets_stays(text: str) -> None:
    assert redactor.text(text) == text
