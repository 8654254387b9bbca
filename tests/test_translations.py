"""The German catalogue: it has every sentence that people read, and the admin and the report speak it."""

from __future__ import annotations

import ast
import gettext
import io
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation
from pypdf import PdfReader

import otel_audit
from otel_audit.models import (
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit.reports import write_report
from tests.reports.rows import at, store_login, store_process, store_registration, store_request, store_step

PACKAGE = Path(otel_audit.__file__).parent
CATALOGUE = PACKAGE / "locale" / "de" / "LC_MESSAGES"
#: Function → which of its arguments are context, message and plural.
FUNCTIONS = {
    "_": (None, 0),
    "gettext": (None, 0),
    "gettext_lazy": (None, 0),
    "ngettext": (None, 0, 1),
    "pgettext": (0, 1),
    "pgettext_lazy": (0, 1),
}
Message = tuple[str, str]


def in_code() -> Iterator[tuple[Message, str]]:
    """Yield context, message and plural of each sentence in the package's modules."""
    for module in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
                context, *messages = FUNCTIONS[node.func.id]
                words = [argument.value if isinstance(argument, ast.Constant) else "" for argument in node.args]
                key = ("" if context is None else words[context], words[messages[0]])
                yield key, words[messages[1]] if len(messages) > 1 else ""


def in_templates() -> Iterator[tuple[Message, str]]:
    """Yield the same of its templates."""
    for template in PACKAGE.rglob("*.html"):
        found = re.findall(
            r'{% translate "((?:[^"])+)"(?: context "([^"]+)")? %}', template.read_text(encoding="utf-8")
        )
        for message, context in found:
            yield (context, message), ""


def in_catalogue() -> dict[Message, list[str]]:
    """Return the translations of each message in the file that translators edit, by context and message."""
    entries: dict[Message, list[str]] = {}
    for block in (CATALOGUE / "django.po").read_text(encoding="utf-8").split("\n\n")[1:]:
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith("#"):
                assert "fuzzy" not in line, block
                continue
            keyword, quote, words = line.partition('"')
            name = keyword.strip() or name
            fields[name] = fields.get(name, "") + ast.literal_eval(quote + words)
        context, message = fields.pop("msgctxt", ""), fields.pop("msgid")
        fields.pop("msgid_plural", None)
        entries[context, message] = list(fields.values())
    return entries


def placeholders(text: str) -> set[str]:
    return {name for _literal, name, _spec, _conversion in Formatter().parse(text) if name}


def test_every_sentence_is_translated_and_nothing_else_is() -> None:
    sentences = dict([*in_code(), *in_templates()])

    catalogue = in_catalogue()

    assert len(sentences) > 150
    assert catalogue.keys() == sentences.keys()
    assert [key for key, translations in catalogue.items() if not all(translations)] == []


def test_translations_have_the_placeholders_of_the_sentences() -> None:
    plurals = dict(in_code())

    for (context, message), translations in in_catalogue().items():
        allowed = placeholders(message) | placeholders(plurals.get((context, message), ""))
        for text in translations:
            assert placeholders(text) <= allowed, text
        assert placeholders(message) <= placeholders(translations[0]), message


def test_the_compiled_catalogue_is_that_of_the_sentences() -> None:
    with (CATALOGUE / "django.mo").open("rb") as file:
        compiled: Any = gettext.GNUTranslations(file)

    for (context, message), translations in in_catalogue().items():
        key = f"{context}\x04{message}" if context else message
        found = [compiled._catalog[key]] if len(translations) == 1 else [compiled._catalog[key, n] for n in (0, 1)]
        assert found == translations


@pytest.fixture
def rows(db: None) -> dict[type, Any]:
    """Store one row of each model, with what goes wrong."""
    request = store_request(status_code=500, error_type="ValueError", trace_id="a1" * 16)
    login = store_login(request=request, status=LoginAuditEvent.FAILED, outcome="failure")
    process = store_process(request=request)
    step = store_step(process, order=1, total_registrations=3)
    registration = store_registration(step, success=False, moment=at(1))
    return {type(row): row for row in (request, login, process, step, registration)}


@pytest.mark.django_db(databases=["default", "audit"])
@pytest.mark.usefixtures("rows")
def test_the_report_is_in_the_language_that_is_active() -> None:
    target = io.BytesIO()

    with translation.override("de"):
        write_report(target, generated_by="anna")

    text = "\n".join(page.extract_text() for page in PdfReader(target).pages)
    for german in (
        "Auditbericht",
        "Zeitraum",
        "1 Anfrage · 1 Anmeldeereignis · 1 Prozess · 1 Schritt · 1 Registrierung",
        "✗ fehlgeschlagen",
        "1 von 3",
        "Keine Registrierung",
        "Anmeldungen",
        "✗ Fehlversuch",
        "je Minute",
    ):
        assert german in text
    assert re.search(r"Seite 1 von\s+3", text)
    assert not re.search(r"\b(Page|Request|Process|Sign|failed|missing|Actor|Outcome|Time|From)\b", text)


@pytest.mark.django_db(databases=["default", "audit"])
@pytest.mark.parametrize(
    ("model", "titles", "inside"),
    [
        (RequestAuditEvent, ("Anfragen", "Beginn (UTC)", "Statusklasse"), ("Statuscode", "Fehlerart", "Inhalte")),
        (LoginAuditEvent, ("Anmeldeereignisse", "✗ Fehlversuch"), ("Benutzername", "Grund")),
        (ProcessAuditEvent, ("Prozesse", "✗ fehlgeschlagen"), ("Eigener Ausgang", "Schritte und Registrierungen")),
        (StepAuditEvent, ("Schritte", "1 von 3"), ("Erwartete Registrierungen", "Keine Registrierung")),
        (RegistrationAuditEvent, ("Registrierungen", "Ergebnis"), ("Trace und Herkunft", "Datensatz-ID")),
    ],
)
def test_the_admin_is_in_the_language_of_who_reads(
    model: Any,
    titles: tuple[str, ...],
    inside: tuple[str, ...],
    admin_client: Client,
    rows: dict[type, Any],
    settings: Any,
) -> None:
    settings.LANGUAGE_CODE = "de"
    name = f"admin:otel_audit_{model._meta.model_name}"

    listed = admin_client.get(reverse(f"{name}_changelist")).content.decode()
    shown = admin_client.get(reverse(f"{name}_change", args=[rows[model].pk])).content.decode()

    for words in (*titles, "Bericht (PDF)", "Von (UTC)", "Anwenden"):
        assert words in listed
    for words in inside:
        assert words in shown
    for page in (listed, shown):
        assert not re.search(r">\s*(Began|Outcome|Actor|Request|Registrations|Trace id|Status code|Extra)\b", page)
