"""Secrets whose names or punctuation are written otherwise: in links, in attributes, in messages of libraries."""

from __future__ import annotations

import json
import time

import pytest

from otel_audit.redaction import MASK, Redactor

redactor = Redactor(["größe", "пароль"])
SECRET = "hunter2"

FORM, HTML, JSON, XML = "application/x-www-form-urlencoded", "text/html", "application/json", "application/xml"


def stored(text: str, content_type: str = "text/plain", *, truncated: bool = False) -> str:
    raw = text.encode()
    return redactor.body(raw, content_type, total_size=len(raw), sha256=None, truncated=truncated).text or ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"u": "https://a/?n=https%3A%2F%2Fb%2F%3Ftoken%3Dhunter2%26a%3D1"}', f"token%3D{MASK}%26a%3D1"),
        ('{"u": "next=%2Fx%3Ftoken%3Dhunter2"}', f"token%3D{MASK}"),
        ('{"u": "next=%252Fx%253Ftoken%253Dhunter2%2526b"}', f"token%253D{MASK}%2526b"),
        ('<a href="/in?next=%2Fx%3fuser%5Bpassword%5D%3dhunter2&amp;b=1">', f"password%5D%3d{MASK}&amp;b=1"),
        ("state=%7B%22token%22%3A%22hunter2%22%2C%22a%22%3A1%7D in a log", f"%22token%22%3A%22{MASK}%22%2C"),
        ("d=%7B%22pin%22%3A+1234%2C%22a%22%3A1%7D in hunter's log", f"%22pin%22%3A+{MASK}%2C"),
        (
            '<div data-user="{&quot;token&quot;: &quot;hunter2&quot;, &quot;a&quot;: 1}">',
            f"&quot;{MASK}&quot;, &quot;a",
        ),
        ("<a>{&#34;apiKey&#34;:&#34;hunter2&#34;}</a>", f"&#34;apiKey&#34;:&#34;{MASK}&#34;"),
        ("<i>{&#x27;token&#x27;: &#x27;hunter2&#x27;}</i>", f"&#x27;token&#x27;: &#x27;{MASK}&#x27;"),
        ("<a>{&amp;quot;token&amp;quot;:&amp;quot;hunter2&amp;quot;}</a>", f"&amp;quot;{MASK}&amp;quot;"),
        (
            "<a>{&quot;passwords&quot;: [&quot;x&quot;, &quot;hunter2&quot;], &quot;b&quot;: 1}</a>",
            f": {MASK}, &quot;b",
        ),
        ("<a>{&quot;token&quot;: &quot;x\\&quot;hunter2&quot;}</a>", f"&quot;{MASK}&quot;}}"),
        (
            "<i>{&#x27;token&#x27;: &quot;it&#x27;s hunter2&quot;, &#x27;a&#x27;: 1}</i>",
            f": &quot;{MASK}&quot;, &#x27;a",
        ),
        ("<i>{&#x27;token&#x27;: b&#x27;hunter2&#x27;, &#x27;a&#x27;: 1}</i>", f": b&#x27;{MASK}&#x27;, &#x27;a"),
        ("<i>{&#x27;token&#x27;: UUID(&#x27;hunter2&#x27;), &#x27;a&#x27;: 1}</i>", f": {MASK}, &#x27;a"),
        ("<i>{&#x27;token&#x27;: (&#x27;x)&#x27;, &#x27;hunter2&#x27;), &#x27;a&#x27;: 1}</i>", f": {MASK}, &#x27;a"),
        (
            "<i>{&#x27;tokens&#x27;: [[1], {&#x27;b&#x27;: &#x27;hunter2&#x27;}], &#x27;a&#x27;: 1}</i>",
            f": {MASK}, &#x27;a",
        ),
        ("d=%7B%27tokens%27%3A+%5B%5B1%5D%2C+%27hunter2%27%5D%2C+%27a%27%3A+1%7D in a log", f"%3A+{MASK}%2C+%27a"),
        ("next=%2Fx%3Ftoken%3D%22hunter2%22%26a%3D1 in a log", f"%3D%22{MASK}%22%26a"),
        (
            "d=%7B%22u%22%3A%22%2Fx%3Ftoken%3D%22%2C+%22pin%22%3A%22hunter2%22%7D in a log",
            f"token%3D%22%2C+%22pin%22%3A%22{MASK}",
        ),
        ("d=%7B%22token%22%3A%22x%5C%22hunter2%22%2C%22a%22%3A1%7D in a log", f"%22{MASK}%22%2C%22a"),
        ("<i>{&quot;token&quot;: Basic hunter2, &quot;a&quot;: 1}</i>", f": {MASK}, &quot;a"),
        ('{"a": "/x?token%3D%22hunter2", "b": "kept"}', f'%22{MASK}", "b": "kept"'),
    ],
)
@pytest.mark.parametrize("content_type", [JSON, HTML, "text/plain"])
def test_pair_with_encoded_punctuation_is_masked(text: str, expected: str, content_type: str) -> None:
    found = stored(text, content_type)

    assert SECRET not in found
    assert expected in found


@pytest.mark.parametrize(
    "text",
    [
        '{"u": "https://a/?n=%2Fx%3Fcolour%3Dgreen%26token_type%3Dbearer"}',
        "<a>{&quot;colour&quot;: &quot;green&quot;, &quot;token&quot;: null}</a>",
        "100 % token %3D",
        "a &quot;token&quot; is needed",
        "&quot;token&quot;: &quot;&quot;",
    ],
)
def test_other_encoded_pairs_stay(text: str) -> None:
    assert stored(text) == text


def test_encoded_pair_that_is_cut_keeps_no_secret() -> None:
    assert SECRET not in stored("<a>{&quot;token&quot;: &quot;hunter2", XML, truncated=True)
    assert SECRET not in stored('<field name="password">hunter2', XML, truncated=True)
    assert SECRET not in stored('<field name="password"><![CDATA[hunter2', XML, truncated=True)


@pytest.mark.parametrize(
    "name", ["contraseña", "contrasen\u0303a", "größe", "GRÖSSE".replace("SS", "ß"), "пароль", "Пароль"]
)
def test_name_of_other_letters_is_known_however_json_writes_it(name: str) -> None:
    document = {"a": [{name: SECRET}], "b": json.dumps({name: SECRET}), "c": json.dumps({name: 7351})}

    for ascii_alone in (True, False):
        found = stored(json.dumps(document, ensure_ascii=ascii_alone), JSON)

        assert SECRET not in found
        assert "7351" not in found
        assert json.loads(found)


@pytest.mark.parametrize(
    ("text", "content_type", "expected"),
    [
        ('<a><field name="password"><![CDATA[hunter2]]></field><b>1</b></a>', XML, "<b>1</b></a>"),
        ('<a><field name="password">x<![CDATA[hunter2]]> </field><b>1</b></a>', XML, "<b>1</b></a>"),
        ('mutation { login(name: "ada", password: """hunter2""") { id } }', "application/graphql", "{ id } }"),
        (json.dumps({"query": 'mutation { login(password: """hunter2""") { id } }'}), JSON, '{ id } }"}'),
        ('password = """\nhunter2\n"""\na = 1\n', "application/toml", "a = 1\n"),
        ('Authorization: Digest username="ada", response="hunter2"\nHost: x', "text/plain", "\nHost: x"),
        (json.dumps({"h": 'Authorization: Digest a="b", response="hunter2"', "z": 1}), JSON, '"z": 1}'),
    ],
)
def test_value_in_other_quotes_is_masked_whole(text: str, content_type: str, expected: str) -> None:
    found = stored(text, content_type)

    assert SECRET not in found
    assert found.endswith(expected)


@pytest.mark.parametrize("value", ["Basic YTpi==", "sid=", 'Digest a="b", response="c"', 'a="b"', 'a=""', "a='"])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_header_in_a_string_ends_with_it_and_what_comes_next_is_masked_too(value: str, layers: int) -> None:
    document: object = [f"Cookie: {value}", "Host: x", {"a": f"Authorization: {value}", "password": SECRET, "z": 1}]
    for _ in range(layers):
        document = {"inner": json.dumps(document)}

    for text, content_type in ((json.dumps(document), JSON), (json.dumps(document), "text/plain")):
        found = stored(text, content_type)

        assert SECRET not in found
        assert "Host: x" in found
        assert json.loads(found)
    assert SECRET not in redactor.text(repr(document))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'null value in column "age"\nDETAIL:  Failing row contains (7, ada (x), hunter2, null).\n',
            f'null value in column "age"\nDETAIL:  Failing row contains ({MASK}).\n',
        ),
        ("Failing row contains (7, a\nhunter2).\n\nThe above", f"Failing row contains ({MASK}).\n\nThe above"),
        ("{'error': 'Failing row contains (7, hunter2).'}", f"{{'error': 'Failing row contains ({MASK}).'}}"),
        ("Failing row contains (7, hunter2", f"Failing row contains ({MASK}"),
        ("Failing row contains (7, I am (here). So, hunter2).\nThe", f"Failing row contains ({MASK}).\nThe"),
        ("Failing row contains (7, hunter2). Tried twice.", f"Failing row contains ({MASK}). Tried twice."),
        (
            '{"a": "Failing row contains (7, hunter2). Tried twice", "b": "f()."}',
            f'{{"a": "Failing row contains ({MASK}). Tried twice", "b": "f()."}}',
        ),
        (
            "1 validation error for Login\nuser.password\n  Too short [type=string_too_short, input_value='hunter2', "
            "input_type=str]\n",
            "1 validation error for Login\nuser.password\n  Too short [type=string_too_short, "
            f"input_value={MASK}, input_type=str]\n",
        ),
        (
            "1 validation error for Login\nage\n  Too old [type=less_than, input_value=200, input_type=int]\n",
            "1 validation error for Login\nage\n  Too old [type=less_than, input_value=200, input_type=int]\n",
        ),
    ],
)
def test_value_that_a_library_quotes_in_its_message_is_masked(text: str, expected: str) -> None:
    assert redactor.text(text) == expected


@pytest.mark.parametrize(
    "part",
    ["token%3D", "%22token%22%3A%22", "&quot;pin&quot;: [", "a%3D", "&quot;token", "%25", "contrase\\u00f1",
     "Failing row contains (", "token\n  [type=x, input_value=", '<a name="pin"><![CDATA[', 'token="""',
     'cookie: a="', "&amp;", "Failing row contains (). ", "&quot;token&quot;: [[", "&quot;token&quot;: [&quot;",
     '\\"token\\":\\"\\"\\"\\"\\"\\"'],
)  # fmt: skip
@pytest.mark.parametrize("content_type", [JSON, HTML])
def test_hostile_text_takes_linear_time(part: str, content_type: str) -> None:
    def took(size: int) -> float:
        began = time.process_time()
        stored(part * (size // len(part)), content_type)
        return time.process_time() - began

    assert min(took(64_000) for _ in range(2)) < 8 * min(took(16_000) for _ in range(3)) + 0.05


@pytest.mark.parametrize(
    "part",
    [
        "Failing row contains (",
        "&quot;token&quot;: &quot;x",
        "&quot;token&quot;: [&quot;",
        "%22token%22: [",
        '"token": """x',
        "token='''x",
        "=",
    ],
)
def test_client_hides_nothing_behind_what_looks_like_a_secret_that_does_not_end(part: str) -> None:
    found = json.loads(stored(json.dumps({"note": part, "header": f"Cookie: {part}", "amount": 7}), JSON))

    assert found["amount"] == 7


@pytest.mark.parametrize("names", [[], ["öffnungscode"]])
@pytest.mark.parametrize("text", ["\\" * 64_000 + "\\u=1", "a=1&" + "\\" * 64_000 + "&\\u00f6=1"])
def test_backslashes_take_linear_time(names: list[str], text: str) -> None:
    masking = Redactor(names)
    began = time.process_time()

    masking.query(f"password=1&{text}")
    masking.text(f"password=1 {text}")
    masking.value({text: 1})

    assert time.process_time() - began < 1  # twenty times what they take
