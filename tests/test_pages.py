"""The pages on policy, redaction, forwarding and architecture say what the code does."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings
from django.urls import path

import otel_audit
import otel_audit_exporters
from otel_audit.options import OPTIONS, REDACT_KEYS
from otel_audit.redaction import is_mark
from otel_audit.rules import EXCEPTIONS, LEVELS, RULE_KEYS

DOCS = Path(__file__).parent.parent / "docs"
POLICY = (DOCS / "policy.md").read_text(encoding="utf-8")
REDACTION = (DOCS / "redaction.md").read_text(encoding="utf-8")
FORWARDING = (DOCS / "forwarding.md").read_text(encoding="utf-8")
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
COLLECTOR_CONFIG = DOCS.parent / "collector-config"

urlpatterns = [path("api/orders/", lambda request: None)]


class _Environment:
    environ = {"AUDIT_MARK_KEY": "x" * 32}


def examples(page: str) -> list[dict[str, Any]]:
    """Return the settings that a page shows."""
    blocks = re.findall(r"```python\nOTEL_AUDIT = (.*?)```", page, re.DOTALL)
    return [eval(block, {"os": _Environment}) for block in blocks]


def test_every_key_of_a_rule_is_documented() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", POLICY, re.MULTILINE)

    assert sorted(documented) == sorted(RULE_KEYS)
    assert all(f'`"{word}"`' in POLICY for word in (*LEVELS, *EXCEPTIONS))


@pytest.mark.parametrize("page", [POLICY, REDACTION, FORWARDING], ids=["policy", "redaction", "forwarding"])
def test_every_example_is_right_but_for_a_function_that_is_not_there(page: str) -> None:
    found = [(key, value) for example in examples(page) for key, value in example.items()]

    wrong = [sentence for key, value in found for sentence in OPTIONS[key].read(value)[1]]

    assert found
    assert all("'shop.audit.redact' cannot be imported" in sentence for sentence in wrong)


def test_every_key_of_redact_is_shown() -> None:
    shown = [key for example in examples(REDACTION) if isinstance(example["REDACT"], dict) for key in example["REDACT"]]

    assert sorted(shown) == sorted(REDACT_KEYS)
    assert all(map(is_mark, re.findall(r"\[redacted:2026:[^\]]*\]", REDACTION)))


def test_the_page_on_forwarding_names_every_file_for_a_collector_with_its_variables() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+\.yaml)` \|(.*)\|$", FORWARDING, re.MULTILINE))
    for name, row in rows.items():
        text = (COLLECTOR_CONFIG / name).read_text(encoding="utf-8")
        variables = set(re.findall(r"\$\{env:(\w+)", text)) - {"LISTEN_HOST", "JAEGER_OTLP_INSECURE"}
        inherited = {"JAEGER_OTLP_ENDPOINT", "QUEUE_DIR"} if "those of `agent.yaml`" in row else set()

        assert set(re.findall(r"`([A-Z_]+)`", row)) | inherited == variables
    assert rows.keys() == {path.name for path in COLLECTOR_CONFIG.glob("*.yaml")}


@pytest.mark.parametrize(
    ("room", "package"), [("otel_audit", otel_audit), ("otel_audit_exporters", otel_audit_exporters)]
)
def test_every_module_has_its_room_in_the_architecture(room: str, package: Any) -> None:
    (section,) = re.findall(rf"^## `{room}`$(.*?)(?=^## |\Z)", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    directory = Path(package.__file__).parent
    modules = {path.stem for path in directory.glob("*.py")} - {"__init__"}
    rooms = {f"{path.parent.name}/" for path in directory.glob("*/__init__.py")}

    rows = "".join(line for line in section.splitlines() if line.startswith("|"))
    assert sorted(re.findall(r"`([\w/]+)`", rows)) == sorted(modules | rooms)


@pytest.mark.urls(__name__)
def test_the_explanation_is_what_the_command_prints() -> None:
    (block,) = re.findall(r"```\n\$ python manage.py otel_audit policy (.*?)\n(.*?)```", POLICY, re.DOTALL)
    out = io.StringIO()

    with override_settings(OTEL_AUDIT={"DATABASE": "audit", **examples(POLICY)[0]}):
        call_command("otel_audit", "policy", *block[0].split(), stdout=out, no_color=True)

    assert out.getvalue() == block[1]


def test_the_python_of_the_redaction_page_can_be_read() -> None:
    for block in re.findall(r"```python\n(.*?)```", REDACTION, re.DOTALL):
        ast.parse(block)
