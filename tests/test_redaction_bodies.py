"""What is stored of request and response bodies."""

from __future__ import annotations

import gzip
import hashlib
import json
import time

import pytest

from otel_audit.redaction import MASK, Body, Redactor

redactor = Redactor()


def stored(raw: bytes, content_type: str, *, cut: int | None = None) -> Body:
    """Redact ``raw`` as the guard does, keeping ``cut`` bytes of it."""
    return redactor.body(
        raw[:cut],
        content_type,
        total_size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        truncated=cut is not None,
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/problem+json",
        "text/json",
        "application/x-ndjson",
        "text/plain",
        "",
    ],
)
def test_json_is_stored_as_it_came_without_its_secrets(content_type: str) -> None:
    raw = b'{"b": 1.50, "a":1e22,\n "password": "x\\"y", "pin":1234, "deep": [{"apiKey": ["k", {"a": 1}]}], "b": 2}'

    body = stored(raw, content_type)

    assert body.changed == ("redacted",)
    assert body.text == (
        f'{{"b": 1.50, "a":1e22,\n "password": "{MASK}", "pin":"{MASK}", "deep": [{{"apiKey": "{MASK}"}}], "b": 2}}'
    )


def test_json_without_secrets_is_stored_byte_for_byte() -> None:
    raw = '{"name": "Ä 😀 \u202e", "n": [1, 2.0, null], "s": "\\u0000\\ud800"}'.encode()

    assert stored(raw, "application/json") == Body(raw.decode(), ())


@pytest.mark.parametrize("value", ['"x\\\\"', r'"x\\\" y"', r'"\"]"', r'["x\\", "]", "y"]', r'["\"", {"a": "]"}]'])
def test_value_ends_where_json_says(value: str) -> None:
    raw = f'{{"password": {value}, "n": 1}}'

    assert stored(raw.encode(), "application/json").text == f'{{"password": "{MASK}", "n": 1}}'


def test_both_values_of_a_duplicate_key_are_redacted() -> None:
    body = stored(b'{"password": "one", "n": 1, "password": "two"}', "application/json")

    assert body.text == f'{{"password": "{MASK}", "n": 1, "password": "{MASK}"}}'


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_json_in_another_encoding_is_recognised_by_its_first_bytes(encoding: str) -> None:
    body = stored('{"password": "hunter2", "n": "ä"}'.encode(encoding), "application/json")

    assert body.text is not None
    assert body.text.removeprefix("\ufeff") == f'{{"password": "{MASK}", "n": "ä"}}'


def test_charset_of_the_content_type_is_followed() -> None:
    body = stored('{"n": "ä"}'.encode("latin-1"), 'application/json; charset="iso-8859-1"')

    assert body == Body('{"n": "ä"}', ())


@pytest.mark.parametrize("cut", range(14, 60))
def test_cut_json_keeps_no_secret_wherever_it_is_cut(cut: int) -> None:
    raw = b'{"a": 1, "password": "hunter2hunter2", "token": ["s3cr3t-s3cr3t", 1]}'

    body = stored(raw, "application/json", cut=cut)

    assert body.text is not None
    assert "hunt" not in body.text
    assert "s3c" not in body.text
    assert "cut" in body.changed


def test_cut_in_the_middle_of_a_character_loses_that_character_alone() -> None:
    raw = '{"a": "ää"}'.encode()

    assert stored(raw, "application/json", cut=8) == Body('{"a": "', ("cut",))


def test_json_100000_levels_deep_is_redacted() -> None:
    raw = b'{"a":' * 100_000 + b'{"password": "hunter2"}' + b"}" * 100_000

    body = stored(raw, "application/json")

    assert body.changed == ("redacted",)
    assert body.text is not None
    assert "hunter2" not in body.text


def test_secret_100000_levels_deep_is_masked_whole() -> None:
    raw = b'{"token":' + b"[" * 100_000 + b'"hunter2"' + b"]" * 100_000 + b', "n": 1}'

    assert stored(raw, "application/json").text == f'{{"token":"{MASK}", "n": 1}}'


def test_secret_beside_a_text_about_secrets_does_not_break_the_json() -> None:
    document = {
        "message": "enter your password: ",
        "hint": "token=[a, b",
        "log": "password: 'x",
        "cards": [4111111111111111, "no 4111111111111111"],
        "last": 1,
    }

    body = stored(json.dumps(document).encode(), "application/json")

    assert body.text is not None
    assert json.loads(body.text) == {
        "message": "enter your password: ",
        "hint": f"token={MASK}",
        "log": f"password: '{MASK}",
        "cards": [MASK, f"no {MASK}"],
        "last": 1,
    }


@pytest.mark.parametrize("indent", [None, 2, 40])
def test_card_number_that_is_a_number_becomes_a_string(indent: int | None) -> None:
    document = {"n": 4111111111111111, "s": 'a "quoted, 4111111111111111, "word', "t": [4111111111111111, 1]}

    body = stored(json.dumps(document, indent=indent).encode(), "application/json")

    assert body.text is not None
    assert json.loads(body.text) == {"n": MASK, "s": f'a "quoted, {MASK}, "word', "t": [MASK, 1]}


def test_form_is_redacted_as_a_query_string() -> None:
    body = stored(b"user=anna&password=x+y&n=%C3%A4", "application/x-www-form-urlencoded")

    assert body == Body(f"user=anna&password={MASK}&n=%C3%A4", ("redacted",))


@pytest.mark.parametrize("content_type", ["", "text/plain"])
def test_form_without_its_content_type_is_recognised(content_type: str) -> None:
    assert stored(b"p%61ssword=hunter2&n=1", content_type).text == f"p%61ssword={MASK}&n=1"


def multipart(*parts: bytes, end: bytes = b"--XX--\r\n") -> bytes:
    """Put parts together as a browser does."""
    return b"".join(b"--XX\r\n" + part + b"\r\n" for part in parts) + end


FORM = "multipart/form-data; boundary=XX"


def test_multipart_fields_are_redacted_and_files_described() -> None:
    raw = multipart(
        b'Content-Disposition: form-data; name="title"\r\n\r\nHello\r\nworld',
        b'Content-Disposition: form-data; name="password"\r\n\r\nhunter2',
        b'Content-Disposition: form-data; name="note"\r\n\r\ntoken=abc',
        b'Content-Disposition: form-data; name="photo"; filename="me;=.png"\r\n'
        b"Content-Type: image/png\r\n\r\n\x89PNG\0",
        b'Content-Disposition: form-data; name="title"\r\n\r\nagain',
    )

    body = stored(raw, FORM)

    assert body.changed == ("redacted",)
    assert body.text is not None
    assert json.loads(body.text) == [
        {"name": "title", "value": "Hello\r\nworld"},
        {"name": "password", "value": MASK},
        {"name": "note", "value": f"token={MASK}"},
        {"name": "photo", "file": "me;=.png", "type": "image/png", "size": 5},
        {"name": "title", "value": "again"},
    ]


def test_multipart_without_secrets_is_not_called_redacted() -> None:
    body = stored(multipart(b'Content-Disposition: form-data; name="a"\r\n\r\n' + MASK.encode()), FORM)

    assert body.changed == ()


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Disposition: form-data; name=password",
        b'Content-Disposition: form-data; NAME = "password"',
        b"Content-Disposition: form-data; name*=utf-8''p%61ssword",
        b"Content-Disposition: form-data; name=\"a\"; name*=utf-8''password",
        b'Content-Disposition: form-data; name="user[password]"',
        b"Content-Disposition: form-data",
        b"X-Nothing: here",
    ],
)
def test_multipart_field_whose_name_may_be_a_secrets_is_masked(header: bytes) -> None:
    body = stored(multipart(header + b"\r\n\r\nhunter2"), FORM)

    assert body.text is not None
    assert "hunter2" not in body.text


def test_multipart_field_in_another_transfer_encoding_is_only_measured() -> None:
    part = b'Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64\r\n\r\naHVudGVyMg=='

    assert stored(multipart(part), FORM).text == '[{"name": "a", "size": 12}]'


def test_cut_multipart_says_which_part_is_incomplete() -> None:
    raw = multipart(
        b'Content-Disposition: form-data; name="a"\r\n\r\none',
        b'Content-Disposition: form-data; name="b"\r\n\r\ntwotwotwo',
    )

    body = stored(raw, FORM, cut=raw.index(b"twotwo") + 3)

    assert body.text == '[{"name": "a", "value": "one"}, {"name": "b", "value": "two", "cut": true}]'
    assert body.changed == ("cut",)


def test_multipart_of_more_than_10000_parts_is_bounded() -> None:
    raw = multipart(*[b'Content-Disposition: form-data; name="a"\r\n\r\nx'] * 12_000)
    started = time.perf_counter()

    body = stored(raw, FORM)

    assert time.perf_counter() - started < 5
    assert body.text is not None
    entries = json.loads(body.text)
    assert len(entries) == 10_001
    assert entries[-1] == {"cut": "more than 10000 parts"}
    assert body.changed == ("cut",)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", 'multipart/form-data; boundary=""', "multipart/form-data; boundary=ä"]
)
def test_multipart_without_a_usable_boundary_is_described(content_type: str) -> None:
    body = stored(b"--XX\r\n\r\nhunter2\r\n--XX--", content_type)

    assert body.changed == ("undecoded",)
    assert body.text is not None
    assert "hunter2" not in body.text


def test_xml_elements_and_attributes_of_secrets_are_masked() -> None:
    raw = b'<r a="1" token="x"><ns:Password>hun<i>ter</i>2</ns:Password><b>y</b><password><![CDATA[z]]></password></r>'

    body = stored(raw, "application/soap+xml; charset=utf-8")

    assert body.text == (
        f'<r a="1" token="{MASK}"><ns:Password>{MASK}</ns:Password><b>y</b><password>{MASK}</password></r>'
    )


def test_cut_xml_element_keeps_no_secret() -> None:
    assert stored(b"<r><password>hunter2</password></r>", "text/xml", cut=16).text == f"<r><password>{MASK}"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            '<input type="hidden" name="csrfmiddlewaretoken" value="abc"><input name="q" value="abc">',
            f'<input type="hidden" name="csrfmiddlewaretoken" value="{MASK}"><input name="q" value="abc">',
        ),
        ("<input value='a\"b' name=password>", f"<input value='{MASK}' name=password>"),
        ('<input type="password" name="x" value="abc"/>', f'<input type="password" name="x" value="{MASK}"/>'),
        ('<meta name="csrf-token" content="abc">', f'<meta name="csrf-token" content="{MASK}">'),
        ('<add key="DbPassword" value="abc" />', f'<add key="DbPassword" value="{MASK}" />'),
        ("<input name=token value=abc>", f"<input name=token value={MASK}>"),
        ('<script>var csrfToken = "abc";</script>', f'<script>var csrfToken = "{MASK}";</script>'),
        ('<input type="password" name="password">', '<input type="password" name="password">'),
        ('<label for="id_password">Password:</label> <b>x</b>', '<label for="id_password">Password:</label> <b>x</b>'),
    ],
)
def test_html_forms_keep_no_secret(raw: str, expected: str) -> None:
    assert stored(raw.encode(), "text/html; charset=utf-8").text == expected


@pytest.mark.parametrize(
    ("raw", "content_type", "name"),
    [
        (gzip.compress(b'{"password": "hunter2"}', mtime=0), "application/json", "application/json"),
        (b"\x89PNG\r\n\x1a\n", "image/png", "image/png"),
        (b'{"password": "hunter2"}', "application/octet-stream", "application/octet-stream"),
        (b"\xff\xfe\xfa", "text/plain", "text/plain"),
        (b"a\0b", "", "no content type"),
        (b"hunter2", "text/plain; charset=zip", "text/plain"),
        (b"hunter2", "text/plain; charset=punycode", "text/plain"),
        (b"hunter2", "text/plain; charset=cp9999", "text/plain"),
        (b"hunter2", "te\0xt/" + "x" * 5000, "te\\x00xt/" + "x" * 94),
        (b"x", "a/token=hunter2", f"a/token={MASK}"),
    ],
)
def test_what_is_no_text_is_described_by_type_size_and_hash(raw: bytes, content_type: str, name: str) -> None:
    body = stored(raw, content_type)

    assert body == Body(f"[{name}, {len(raw)} bytes, sha256 {hashlib.sha256(raw).hexdigest()}]", ("undecoded",))


def test_description_without_a_hash_names_the_size() -> None:
    body = redactor.body(b"", "image/png", total_size=7, sha256=None, truncated=True)

    assert body == Body("[image/png, 7 bytes]", ("undecoded",))


def test_nul_in_text_is_escaped() -> None:
    assert stored(b"a\0b", "text/plain") == Body("a\\x00b", ("escaped",))


def test_empty_body_is_empty_text() -> None:
    assert stored(b"", "application/json") == Body("", ())
