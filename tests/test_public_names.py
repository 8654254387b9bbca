"""The names that version 1.0 keeps: importable, documented, listed, and cheap to import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

PUBLIC = {
    "otel_audit": ["process", "step", "resume", "carrier", "actor", "annotate", "flush", "status"],
    "otel_audit.middleware": ["AuditMiddleware", "RequestLoginAuditEventMiddleware", "GuardMiddleware"],
    "otel_audit.receiver": ["receive_traces"],
    "otel_audit.routers": ["AuditRouter"],
    "otel_audit.database_router": ["OTelAudit", "DRFAuditTrail"],
    "otel_audit.process_audit": ["ProcessAudit"],
    "otel_audit.testing": ["capture"],
    "otel_audit.redaction": ["sensitive"],
    "otel_audit.signals": ["audit_delivery_failed"],
    "otel_audit.models": [
        "RequestAuditEvent",
        "LoginAuditEvent",
        "ProcessAuditEvent",
        "StepAuditEvent",
        "RegistrationAuditEvent",
    ],
    "otel_audit.exceptions": ["OTelAuditError", "ConfigurationError", "AppendOnlyError", "CarrierError"],
    "otel_audit_exporters": [
        "AuditSpanProcessor",
        "DatabaseSpanExporter",
        "AuditSampler",
        "RedactingSpanExporter",
    ],
}

each_module = pytest.mark.parametrize("module", PUBLIC)


@each_module
def test_public_names_are_importable_and_documented(module: str) -> None:
    for name in PUBLIC[module]:
        found = getattr(import_module(module), name)
        assert inspect.getdoc(found), name


@each_module
def test_public_names_are_listed(module: str) -> None:
    assert set(PUBLIC[module]) <= set(import_module(module).__all__)


@pytest.mark.parametrize("module", ["otel_audit", "otel_audit_exporters"])
def test_packages_list_nothing_else(module: str) -> None:
    found = import_module(module)

    assert sorted(found.__all__) == sorted(PUBLIC[module])
    assert set(found.__all__) <= set(dir(found))
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nonsense'"):
        _ = found.nonsense


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("otel_audit", "process", "(name: 'str', description: 'str' = '', **extra: 'Any') -> 'Process'"),
        (
            "otel_audit",
            "step",
            "(name: 'str', expect: 'int' = 1, order: 'int | None' = None, description: 'str' = '', "
            "**extra: 'Any') -> 'Step'",
        ),
        ("otel_audit", "annotate", "(request: 'Any', **extra: 'Any') -> 'None'"),
        ("otel_audit", "flush", "(timeout: 'float' = 30.0) -> 'int'"),
        ("otel_audit", "status", "() -> 'dict[str, Any]'"),
        ("otel_audit", "resume", "(carried: 'Mapping[str, str]') -> 'Resumed'"),
        ("otel_audit", "carrier", "(running: 'Process') -> 'dict[str, str]'"),
    ],
)
def test_signatures_are_the_promised_ones(module: str, name: str, expected: str) -> None:
    assert str(inspect.signature(getattr(import_module(module), name))) == expected


def test_aliases_are_what_they_stand_for() -> None:
    from otel_audit.database_router import DRFAuditTrail, OTelAudit
    from otel_audit.middleware import AuditMiddleware, RequestLoginAuditEventMiddleware
    from otel_audit.routers import AuditRouter

    assert OTelAudit is DRFAuditTrail is AuditRouter
    assert issubclass(RequestLoginAuditEventMiddleware, AuditMiddleware)


def python(code: str, **environment: str) -> str:
    """Run code in a fresh interpreter that knows no Django settings; return what it prints."""
    import os

    clean = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={**clean, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "imports",
    [
        "import otel_audit",
        "import otel_audit_exporters",
        "from otel_audit_exporters import AuditSpanProcessor, AuditSampler, DatabaseSpanExporter",
        "from otel_audit_exporters import RedactingSpanExporter",
        "import otel_audit_exporters.entry_points",
        "import otel_audit.pytest_plugin",
        "from otel_audit import process, step, annotate, flush",
        "import otel_audit.attributes, otel_audit.exceptions, otel_audit.redaction, otel_audit.policy",
    ],
)
def test_import_loads_no_models_and_needs_no_settings(imports: str) -> None:
    said = python(f"{imports}\nimport sys\nprint('otel_audit.models' in sys.modules)")

    assert said == "False"


@pytest.mark.parametrize("imports", ["import otel_audit", "import otel_audit_exporters"])
def test_import_of_a_package_loads_neither_django_nor_opentelemetry(imports: str) -> None:
    said = python(f"{imports}\nimport sys\nprint([m for m in ('django', 'opentelemetry') if m in sys.modules])")

    assert said == "[]"


def test_helpers_without_django_set_up_say_what_to_do() -> None:
    said = python(
        """
from otel_audit import flush
try:
    flush()
except RuntimeError as error:
    print(error)
"""
    )

    assert "add 'otel_audit' to INSTALLED_APPS and call django.setup()" in said


def test_plugin_is_found_by_pytest() -> None:
    from importlib.metadata import PackageNotFoundError, entry_points

    try:
        found: Any = {
            (entry.group, entry.value) for entry in entry_points(name="otel_audit") if "otel_audit" in entry.value
        }
    except PackageNotFoundError:  # pragma: no cover
        pytest.skip("the package is not installed")
    if not found:
        pytest.skip("the package is not installed")

    assert {group for group, _ in found} == {
        "opentelemetry_traces_exporter",
        "opentelemetry_traces_sampler",
        "opentelemetry_post_instrument",
        "pytest11",
    }
