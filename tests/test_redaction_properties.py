"""Whatever the document: a secret in it never survives, and without one it stays as it is."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_audit.redaction import MASK, Redactor

redactor = Redactor()

CANARY = "Zq7CANARYq7Z"
SECRET_KEYS = [
    "password",
    "newPassword",
    "API-KEY",
    "refresh",
    "client_secret",
    "csrfToken",
    "pin",
    "sessionid",
    "cardNumber",
]
CARRIERS = ["Bearer {}", "postgres://u:{}@h/d", "password={}", "token: {}", '{{"secret": "{}"}}', "Cookie: sid={}; a=b"]
#: Everything but letters that could make a secret's name or shape by chance: what is left has every other trap.
PLAIN = st.text(st.characters(exclude_characters="@", exclude_categories=["Nd", "Cs", "Ll", "Lu"]), max_size=20)
#: Words with every kind of punctuation between them, none of which is near a secret's name.
WORDS = st.lists(
    st.sampled_from(
        ["alpha", "Bravo", "x", "ünï", "日本", "42", "'", '"', "\\", "{", "]", ":", "=", " ", "\n", "\0", "<"]
    )
).map("".join)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-9999, 9999)
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | PLAIN
    | WORDS
)
KEYS = PLAIN | WORDS | st.sampled_from(["token_type", "author", "description", "id"])
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=15
)
STYLES = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.none() | st.integers(0, 3),
        "separators": st.sampled_from([(",", ":"), (", ", " : ")]),
    }
)


@st.composite
def planted(draw: st.DrawFn) -> Any:
    """A document with the canary in it: beside a secret's name, in a text, in JSON in a string, many levels down."""
    shape = draw(st.sampled_from(["key", "list", "dict", "carrier", "json"]))
    key = draw(st.sampled_from(SECRET_KEYS))
    around = draw(WORDS)
    node: Any
    if shape == "key":
        node = {key: around + CANARY + around}
    elif shape == "list":
        node = {key: [around, {"a": CANARY}, 1]}
    elif shape == "dict":
        node = {key: {around: [CANARY]}}
    elif shape == "carrier":
        node = draw(st.sampled_from(CARRIERS)).format(CANARY)
    else:
        node = json.dumps({"n": 1, key: CANARY}, **draw(STYLES))
    for _ in range(draw(st.integers(0, 4))):
        sibling = draw(DOCUMENTS)
        node = draw(st.sampled_from([[node, sibling], [sibling, node], {draw(KEYS): node, "x": sibling}]))
        if draw(st.integers(0, 5)) == 0:
            node = json.dumps(node, **draw(STYLES))
    return node


def body_of(document: Any, style: dict[str, Any]) -> str:
    """Return what is stored of a JSON body."""
    raw = json.dumps(document, **style).encode()
    text = redactor.body(raw, "application/json", total_size=len(raw), sha256=None, truncated=False).text
    assert text is not None
    return text


@given(planted(), STYLES)
@settings(max_examples=200, deadline=None)
def test_planted_secret_never_survives_in_a_body(document: Any, style: dict[str, Any]) -> None:
    text = body_of(document, style)

    assert CANARY not in text
    json.loads(text)


@given(planted(), STYLES, st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_planted_secret_never_survives_in_a_cut_body(document: Any, style: dict[str, Any], where: float) -> None:
    raw = json.dumps(document, **style).encode()
    end = raw.find(CANARY.encode()) + len(CANARY) + int(where * 50)

    body = redactor.body(raw[:end], "application/json", total_size=len(raw), sha256=None, truncated=True)

    assert body.text is not None
    assert CANARY not in body.text


@given(planted(), STYLES, st.data())
@settings(max_examples=100, deadline=None)
def test_planted_secret_never_survives_behind_escapes(
    document: Any, style: dict[str, Any], data: st.DataObject
) -> None:
    written = json.dumps(document, **style)
    letters = [match.start() for match in re.finditer(r"(?<![\\A-Za-z])[A-Za-z](?=[A-Za-z])", written)]
    chosen = set(data.draw(st.lists(st.sampled_from(letters), max_size=8))) if letters else set()
    raw = "".join(
        f"\\u{ord(c):04x}" if i in chosen and written[max(0, i - 1)] != "\\" else c for i, c in enumerate(written)
    )

    text = redactor.text(raw)

    assert CANARY not in text


@given(planted())
@settings(max_examples=100, deadline=None)
def test_planted_secret_never_survives_in_an_object(document: Any) -> None:
    assert CANARY not in json.dumps(redactor.value(document))


@given(planted())
@settings(max_examples=100, deadline=None)
def test_planted_secret_never_survives_in_a_repr(document: Any) -> None:
    if isinstance(document, str):
        document = [document]

    assert CANARY not in redactor.text(repr(document))


@given(DOCUMENTS, STYLES)
@settings(max_examples=200, deadline=None)
def test_document_without_secrets_is_stored_unchanged(document: Any, style: dict[str, Any]) -> None:
    assert body_of(document, style) == json.dumps(document, **style)


@given(DOCUMENTS)
@settings(max_examples=100, deadline=None)
def test_object_without_secrets_is_copied_unchanged(document: Any) -> None:
    assert redactor.value(document) == document


@given(planted(), STYLES)
@settings(max_examples=100, deadline=None)
def test_masking_twice_changes_nothing_more(document: Any, style: dict[str, Any]) -> None:
    once = body_of(document, style)

    assert redactor.body(once.encode(), "application/json", total_size=0, sha256=None, truncated=False).text == once


@given(st.lists(st.tuples(st.sampled_from([*SECRET_KEYS, "a", "b[c]", "q"]), WORDS | st.just(CANARY)), max_size=6))
@settings(max_examples=100, deadline=None)
def test_query_string_loses_its_secrets_alone(pairs: list[tuple[str, str]]) -> None:
    pairs = [(key, value if key in SECRET_KEYS else value.replace(CANARY, "x")) for key, value in pairs]
    expected = [(key, MASK if key in SECRET_KEYS and value else value) for key, value in pairs]

    masked = redactor.query(urlencode(pairs))

    assert parse_qsl(masked, keep_blank_values=True) == expected


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_is_taken(text: str) -> None:
    redactor.text(text)
    redactor.query(text)
    redactor.value({text: text})


@given(st.binary(max_size=200), st.text(max_size=60) | st.sampled_from(["multipart/form-data; boundary=a", "text/xml"]))
@settings(max_examples=100, deadline=None)
def test_any_body_is_taken(raw: bytes, content_type: str) -> None:
    body = redactor.body(raw, content_type, total_size=len(raw), sha256=None, truncated=False)

    assert body.text is not None
    assert "\0" not in body.text
