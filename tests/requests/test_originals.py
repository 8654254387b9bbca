"""What a record says of a body that it does not hold whole: its size, and its hash where that tells no secret."""

from __future__ import annotations

from hashlib import sha256

import pytest

from otel_audit.testing import AuditRecords

from .conftest import URLS
from .doors import Door

pytestmark = [pytest.mark.urls(URLS), pytest.mark.usefixtures("fresh_provider")]

LIMIT = 64 * 1024
FILLED = b'{"a": "' + b"x" * LIMIT + b'"}'
SECRET = b'{"password": "hunter2", "a": "' + b"x" * LIMIT + b'"}'


@pytest.mark.parametrize(
    ("body", "words", "hashed"),
    [
        (b'{"a": 1}', [], False),
        (FILLED, ["cut"], True),
        (SECRET, ["redacted", "cut"], False),
        (b'{"password": "hunter2"}', ["redacted"], False),
        (b"\x89PNG\x00", ["undecoded"], True),
        (b'{"a": "\x00"}', ["escaped"], True),
    ],
)
def test_size_and_hash_of_what_a_body_was_are_kept(
    door: Door, records: AuditRecords, body: bytes, words: list[str], hashed: bool
) -> None:
    kind = "image/png" if body.startswith(b"\x89") else "application/json"

    reply = door.post("/echo/", body, headers={"Content-Type": kind})

    (row,) = records.requests
    expected = [f"request_body:{word}" for word in words]
    expected += [f"request_body:size={len(body)}"] if words else []
    expected += [f"request_body:sha256={sha256(body).hexdigest()}"] if hashed else []
    assert [one for one in row.changed_fields if one.startswith("request_body")] == expected
    answers = [one.replace("response_", "request_") for one in row.changed_fields if one.startswith("response_body")]
    assert reply.body == body
    assert answers == expected
