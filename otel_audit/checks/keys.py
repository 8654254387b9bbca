"""What is written in ``OTEL_AUDIT``: its shape, its keys, each value, and the ancestor's names for them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from django.conf import settings

from otel_audit.checks.registry import Finding, check
from otel_audit.conf import SPOOL_VARIABLE, conf
from otel_audit.options import LEGACY_OPTIONS, OPTIONS, shown, spool_directory

__all__: list[str] = []

_NUMBERS: Final = {
    "ENABLED": "E010",
    "DATABASE": "E011",
    "SERVICE_NAME": "E012",
    "DELIVERY": "E013",
    "SPOOL_DIR": "E014",
    "SPOOL_MAX_BYTES": "E015",
    "FSYNC": "E026",
    "INTENTS": "E027",
    "DRAIN": "E016",
    "POLICY": "E017",
    "REDACT": "E018",
    "RESOLVE_ACTOR": "E019",
    "TRUSTED_PROXIES": "E020",
    "AUTH_URLS": "E021",
    "AUTH_FAILED_STATUS_CODES": "E022",
    "USER_PK_NAME": "E023",
    "OTLP": "E024",
    "TRACE_URL": "E025",
    "TRUSTED_PEERS": "E028",
    "RECEIVER_CERTIFICATE_HEADER": "E029",
}
_REPLACED: Final = {name: key for key, option in OPTIONS.items() for name in option.legacy}
_ANCESTOR: Final = "DRF_AUDIT_TRAIL_"
#: Names of the ancestor that mean nothing here: its router is told which database is not the audit trail's.
_WITHOUT_EFFECT: Final = ("DJANO_DEFAULT_DATABASE_ALIAS", "DJANGO_DEFAULT_DATABASE_ALIAS")
#: A rule that does what an entry of the ancestor's lists did.
_RULES: Final = {
    "DRF_AUDIT_TRAIL_REQUEST_AUDIT_URLS": '{"path": r"^(?!/api/)", "level": "none"}',
    "DRF_AUDIT_TRAIL_NOTSAVE_REQUEST_BODY_URLS": '{"path": r"^/api/upload/", "level": "metadata"}',
    "DRF_AUDIT_TRAIL_NOTSAVE_RESPONSE_BODY_URLS": '{"path": r"^/api/export/", "level": "request"}',
}


@check("E001")
def shape() -> Iterator[Finding]:
    """``OTEL_AUDIT`` is a dict."""
    written = conf.written()
    if written is not None and not isinstance(written, Mapping):
        yield (
            f"OTEL_AUDIT is a {type(written).__name__}, no dict; all defaults count.",
            'Write a dict such as OTEL_AUDIT = {"DATABASE": "audit"}, or remove it.',
        )


@check("E002")
def unknown_keys() -> Iterator[Finding]:
    """Every key of ``OTEL_AUDIT`` is known."""
    written = conf.written()
    for key in written if isinstance(written, Mapping) else ():
        if key in OPTIONS:
            continue
        near = get_close_matches(str(key).upper(), OPTIONS, n=1) if isinstance(key, str) else []
        yield (
            f"OTEL_AUDIT has the unknown key {shown(key)}; it has no effect.",
            f"Write {near[0]!r} in its place." if near else f"Remove it. The keys are {', '.join(OPTIONS)}.",
        )


def _value_check(key: str, number: str) -> None:
    @check(number)
    def value() -> Iterator[Finding]:
        name, raw = conf.source(key)
        for sentence in OPTIONS[key].read(raw)[1]:
            yield f"{name} is wrong: {sentence}.", f"Set {name} to {OPTIONS[key].write}."


for _key, _number in _NUMBERS.items():
    _value_check(_key, _number)


@check("E050")
def ancestor_urls() -> Iterator[Finding]:
    """The ancestor's lists of URLs, where they are used, hold regular expressions."""
    for name, option in LEGACY_OPTIONS.items():
        for sentence in conf.legacy(name)[1]:
            yield f"{name} is wrong: {sentence}.", f"Set {name} to {option.write}."


@check("E051")
def spool_variable() -> Iterator[Finding]:
    """The environment variable for the spool directory, where it counts, holds an absolute path."""
    variable = os.environ.get(SPOOL_VARIABLE)
    if variable and conf.value("SPOOL_DIR") is None:
        for sentence in spool_directory(variable)[1]:
            yield (
                f"The environment variable {SPOOL_VARIABLE} is wrong: {sentence}.",
                f"Set {SPOOL_VARIABLE} to {OPTIONS['SPOOL_DIR'].write.removesuffix(', or None')}.",
            )


@check("W001")
def enabled() -> Iterator[Finding]:
    """Recording is not switched off."""
    if not conf.enabled:
        yield (
            'OTEL_AUDIT["ENABLED"] is False: nothing is recorded.',
            'Remove it, or write OTEL_AUDIT["ENABLED"] = True, to record again.',
        )


@check("W002")
def ancestor_names() -> Iterator[Finding]:
    """No setting has a name of ``drf-audit-trail``."""
    for name in dir(settings):
        if name.startswith(_ANCESTOR) or name in _WITHOUT_EFFECT:
            yield _ancestor_name(name)


def _ancestor_name(name: str) -> Finding:
    key = _REPLACED.get(name)
    if key is not None and conf.source(key)[0] == name:
        return f"{name} is a setting of drf-audit-trail.", f'Write OTEL_AUDIT = {{"{key}": …}} instead.'
    if key is not None:
        return f"{name} has no effect: another setting counts for {key!r}.", f"Remove {name}."
    if name in _RULES:
        return (
            f"{name} is a setting of drf-audit-trail.",
            f'Write OTEL_AUDIT = {{"POLICY": [{_RULES[name]}]}} instead, with your own paths.',
        )
    near = get_close_matches(name, [*_REPLACED, *_RULES], n=1, cutoff=0.9)  # the long prefix is alike in all
    if near:
        key = _REPLACED.get(near[0], "POLICY")
        return f"{name} has no effect; drf-audit-trail has {near[0]}.", f'Write OTEL_AUDIT = {{"{key}": …}} instead.'
    return f"{name} has no effect here.", f"Remove {name}."
