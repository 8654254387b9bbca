"""A recorded JSON body is laid out for reading, and says exactly what it said before."""

from __future__ import annotations

import json

import pytest

from otel_audit.admin.json_text import indented


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":1,"b":[true,null]}', '{\n  "a": 1,\n  "b": [\n    true,\n    null\n  ]\n}'),
        ('{"a": 1.10, "a": 1e2}', '{\n  "a": 1.10,\n  "a": 1e2\n}'),
        ('{"x":"\\u00e9 {\\"[,:"}', '{\n  "x": "\\u00e9 {\\"[,:"\n}'),
        ('[{},[],"",-0.0]', '[\n  {},\n  [],\n  "",\n  -0.0\n]'),
        ('"a,b"', '"a,b"'),
        ("{ }", "{}"),
    ],
)
def test_json_stands_on_lines_of_its_own_with_every_token_as_recorded(text: str, shown: str) -> None:
    result = indented(text)

    assert result == shown


@pytest.mark.parametrize("text", ["", "name=tea&price=2", '{"cut": "her', '{"a": 1}\n<b>', "[" * 60_000])
def test_what_is_no_json_stands_as_it_is(text: str) -> None:
    result = indented(text)

    assert result == text


def test_deep_brackets_make_no_page_of_megabytes() -> None:
    depth = 400
    text = "[" * depth + "]" * depth

    result = indented(text)

    assert json.loads(result) == json.loads(text)
    assert len(result) < depth * 2 * 42
