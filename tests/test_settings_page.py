"""The page that documents the settings says what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from otel_audit.checks import CHECKS
from otel_audit.conf import DEFAULTS, LEGACY_NAMES
from otel_audit.options import LEGACY_OPTIONS, OTLP_KEYS

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """Return the page's sections by heading."""
    parts = re.split(r"^##? (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> list[list[str]]:
    """Return the cells of the tables in a section, without their heads."""
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "`" in line]


def test_every_key_is_documented_with_its_default(sections: dict[str, str]) -> None:
    documented = {row[0].strip("`"): ast.literal_eval(row[2].strip("`")) for row in rows(sections["Settings"])}

    assert documented == DEFAULTS
    assert list(documented) == list(DEFAULTS)


def test_every_old_name_is_documented_with_its_new_key(sections: dict[str, str]) -> None:
    documented = {
        name: row[1].split("`")[1] if row[1].startswith("`") else None
        for row in rows(sections["Names of drf-audit-trail"])
        for name in re.findall(r"`(\w+)`", row[0])
    }

    read = {name: key for key, names in LEGACY_NAMES.items() for name in names}
    read |= dict.fromkeys(LEGACY_OPTIONS, "POLICY")
    read |= dict.fromkeys(("DJANO_DEFAULT_DATABASE_ALIAS", "DJANGO_DEFAULT_DATABASE_ALIAS"))
    assert documented == read


def test_every_key_of_otlp_is_documented(sections: dict[str, str]) -> None:
    documented = {row[0].strip("`") for row in rows(sections["OTLP"])}

    assert documented == set(OTLP_KEYS)


def test_every_check_is_documented(sections: dict[str, str]) -> None:
    documented = re.findall(r"^\| `(otel_audit\.[EW]\d+)`", sections["Checks"], re.MULTILINE)
    keys = [f"otel_audit.E0{number}" for number in range(10, 10 + len(DEFAULTS))]

    assert [identity for identity in documented if identity != "otel_audit.E010"] == sorted(CHECKS.keys() - set(keys))
    assert re.search(f"`{keys[0]}` . `{keys[-1]}`", sections["Checks"])
    assert set(keys) <= CHECKS.keys()


def test_every_example_is_a_setting_that_is_right(sections: dict[str, str]) -> None:
    from otel_audit.options import OPTIONS

    for block in re.findall(r"```python\nOTEL_AUDIT = (.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        written = eval(block, {"os": _Environment})

        for key, value in written.items():
            assert OPTIONS[key].read(value)[1] == []


class _Environment:
    environ = {"COLLECTOR_TOKEN": "token"}
