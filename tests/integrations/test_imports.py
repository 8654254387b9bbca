"""The wraps wait for the site's own import, and change nothing about the classes that they wrap."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

from otel_audit.integrations.imports import when_imported, wrap

PROBE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
from django.conf import settings
settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if "rest_framework" not in app]
django.setup()
print(sorted(name for name in sys.modules if name.startswith(("rest_framework", "jwt"))))
"""


def test_ready_imports_no_optional_package() -> None:
    found = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)

    assert found.stdout == "[]\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module that can be imported and has not been."""
    (tmp_path / "sample_of_imports.py").write_text("class Thing:\n    def name(self):\n        return 'thing'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "sample_of_imports"
    sys.modules.pop("sample_of_imports", None)


def _louder(found: ModuleType) -> None:
    wrap(found.Thing, "name", lambda name, thing: name(thing).upper())


def test_module_is_wrapped_when_it_is_imported(module: str) -> None:
    when_imported(module, _louder)

    found = importlib.import_module(module)

    assert found.Thing().name() == "THING"
    assert "return 'thing'" in inspect.getsource(found)


def test_several_may_wait_for_one_module(module: str) -> None:
    when_imported(module, _louder)
    when_imported(module, lambda found: wrap(found.Thing, "__str__", lambda text, thing: "a thing"))

    found = importlib.import_module(module)

    assert (found.Thing().name(), str(found.Thing())) == ("THING", "a thing")


def test_module_that_is_there_is_wrapped_at_once(module: str) -> None:
    found = importlib.import_module(module)

    when_imported(module, _louder)

    assert found.Thing().name() == "THING"


def test_module_is_wrapped_again_when_it_is_reloaded(module: str) -> None:
    when_imported(module, _louder)
    found = importlib.import_module(module)

    importlib.reload(found)
    importlib.reload(found)

    assert found.Thing().name() == "THING"


def test_module_in_an_archive_is_wrapped_and_its_neighbours_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "class Thing:\n    def name(self):\n        return 'thing'\n"
    with ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("archived_one.py", source)
        archive.writestr("archived_two.py", source)
    monkeypatch.syspath_prepend(str(tmp_path / "archive.zip"))
    when_imported("archived_one", _louder)

    one, two = importlib.import_module("archived_one"), importlib.import_module("archived_two")

    assert (one.Thing().name(), two.Thing().name()) == ("THING", "thing")


def test_module_that_is_not_installed_stays_missing() -> None:
    when_imported("no_such_module_anywhere", _louder)

    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module_anywhere")


# ── wrap ────────────────────────────────────────────────────────────────────────────────────────


class _Base:
    def name(self) -> str:
        return "base"

    @classmethod
    def make(cls) -> str:
        return cls.__name__


def test_wrapping_twice_is_wrapping_once() -> None:
    kind = type("Kind", (_Base,), {"name": lambda self: "kind"})

    for _ in range(2):
        wrap(kind, "name", lambda name, thing: name(thing) + "!")

    assert kind().name() == "kind!"


def test_inherited_method_stays_overridable_between_the_classes() -> None:
    wrapped = type("Wrapped", (_Base,), {})
    between = type("Between", (_Base,), {"name": lambda self: "between"})
    wrap(wrapped, "name", lambda name, thing: name(thing) + "!")
    wrap(wrapped, "name", lambda name, thing: name(thing) + "!")

    combined = type("Combined", (wrapped, between), {})

    assert combined().name() == "between!"
    assert _Base().name() == "base"


def test_class_method_gets_the_class_it_was_called_on() -> None:
    kind = type("Kind", (_Base,), {"make": classmethod(lambda cls: cls.__name__)})
    wrap(kind, "make", lambda make, cls: make(cls).upper())

    heir = type("Heir", (kind,), {})

    assert heir.make() == "HEIR"


def test_method_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AttributeError):
        wrap(_Base, "no_such_method", lambda: None)


def test_wrapper_looks_like_the_method() -> None:
    kind = type("Kind", (), {"name": _Base.name})

    wrap(kind, "name", lambda name, thing: name(thing))

    assert (kind.name.__name__, kind.name.__qualname__) == ("name", "_Base.name")
    assert not hasattr(kind.name, "__wrapped__")
