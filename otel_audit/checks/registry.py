"""Registers a check under its number: ``E…`` is an error, ``W…`` a warning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from django.core import checks

__all__ = ["CHECKS", "Finding", "check"]

#: What is wrong, and what to write instead.
Finding = tuple[str, str]
Findings = Callable[..., Iterator[Finding]]

#: Every check by its id.
CHECKS: Final[dict[str, Findings]] = {}

_APP: Final = "otel_audit"


def check(number: str, *tags: str) -> Callable[[Findings], Findings]:
    """Register a function that yields findings as the Django check ``otel_audit.<number>``.

    Args:
        number: unique; its letter says how bad a finding is.
        tags: Django's tags, instead of ``otel_audit``; with ``database`` the function is given the aliases to ask.
    """
    kind = {"E": checks.Error, "W": checks.Warning}[number[0]]
    identity = f"{_APP}.{number}"
    if identity in CHECKS:
        raise ValueError(f"two checks have the id {identity}")

    def decorate(function: Findings) -> Findings:
        def run(app_configs: Any, databases: Any = None, **_: Any) -> list[checks.CheckMessage]:
            if app_configs is not None and all(config.label != _APP for config in app_configs):
                return []
            found = function(databases or ()) if checks.Tags.database in tags else function()
            return [kind(wrong, hint=write, id=identity) for wrong, write in found]

        CHECKS[identity] = function
        # Not both: from Django 6.0 on, `check --tag` asks every database for the checks it names.
        checks.register(run, *(tags or (_APP,)))
        return function

    return decorate
