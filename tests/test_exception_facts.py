"""What a record says of an exception: REST framework's answers in words, all others as they say themselves."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.test import override_settings
from rest_framework.exceptions import APIException, NotFound, ValidationError

from otel_audit.exception_facts import describe_exception


class Own(ValidationError):
    """Says itself what it means."""

    def __str__(self) -> str:
        """Return its own words."""
        return "out of stock"


def without_ada(text: str) -> str:
    """Mask a name, as a site's own redaction may."""
    return text.replace("Ada", "*")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValidationError({"price": ["A valid number is required."]}), "price: A valid number is required."),
        (ValidationError({"price": ["too low", "odd"], "name": "none"}), "price: too low; odd; name: none"),
        (ValidationError({"items": [{}, {"price": ["Bad."]}], "tags": {0: ["x"]}}), "items[1].price: Bad. tags[0]: x"),
        (ValidationError([{"price": ["Bad."]}, {}]), "[0].price: Bad."),
        (ValidationError(["Closed today.", "try again"]), "Closed today. try again"),
        (ValidationError("no tea"), "no tea"),
        (APIException({"detail": "no tea", "code": "empty"}), "detail: no tea; code: empty"),
        (NotFound(), "Not found."),
        (ValidationError({}), "{}"),
        (Own({"price": ["Bad."]}), "out of stock"),
        (ValueError({"price": ["Bad."]}), "{'price': ['Bad.']}"),
    ],
)
def test_message_is_what_the_client_was_told_in_words(error: Exception, message: str) -> None:
    assert describe_exception(error)["message"] == message


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ({"password": ["two words are too few."], "name": ["taken"]}, "password: [redacted]; name: taken"),
        ({"user": {"token": ["two words"]}}, "user.token: [redacted]"),
        ({"note": ["password=hunter2 is no note"]}, "note: password=[redacted] is no note"),
    ],
)
def test_words_of_secrets_are_masked(detail: Any, message: str) -> None:
    assert describe_exception(ValidationError(detail))["message"] == message


def test_the_sites_own_redaction_sees_the_words() -> None:
    with override_settings(OTEL_AUDIT={"REDACT": {"callable": "tests.test_exception_facts.without_ada"}}):
        message = describe_exception(ValidationError({"name": ["Ada is taken."]}))["message"]

    assert message == "name: * is taken."


def test_a_detail_that_holds_itself_ends() -> None:
    error, ring = ValidationError("x"), {}
    ring["ring"] = ring
    error.detail = ring

    assert "nested deeper" in describe_exception(error)["message"]


def test_rest_framework_is_not_imported_for_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rest_framework.exceptions")

    assert describe_exception(ValueError("no number"))["message"] == "no number"
    assert "rest_framework.exceptions" not in sys.modules
