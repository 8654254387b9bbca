"""How values stand in the admin's pages. Whatever comes from a row is escaped here, and nowhere marked safe."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django.contrib.admin.options import ModelAdmin
from django.db.models import Model
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from otel_audit.admin.json_text import indented
from otel_audit.models import AuditEvent, LoginAuditEvent, RegistrationAuditEvent, RequestAuditEvent
from otel_audit.outcomes import DerivedOutcome
from otel_audit.text import unturned
from otel_audit.trace_links import trace_url

__all__ = [
    "NOTHING",
    "actor_of",
    "block",
    "body",
    "derived_mark",
    "duration",
    "listing_url",
    "loaded",
    "login_mark",
    "mark",
    "moment",
    "outcome_mark",
    "pretty_json",
    "record_link",
    "registration_mark",
    "shortened",
    "status_mark",
    "time",
    "trace_link",
]

NOTHING: Final = "\N{EN DASH}"

_SIGNS: Final = {"good": "✓", "bad": "✗", "warn": "◐", "none": "?"}
_OWN: Final[dict[str, str]] = {AuditEvent.Outcome.SUCCESS: "good", AuditEvent.Outcome.FAILURE: "bad"}
_DERIVED: Final[dict[str, str]] = {
    DerivedOutcome.SUCCEEDED: "good",
    DerivedOutcome.FAILED: "bad",
    DerivedOutcome.INCOMPLETE: "warn",
}


def mark(kind: str, word: object) -> SafeString:
    """Return a state as sign and word; ``kind`` is ``good``, ``bad``, ``warn`` or ``none``."""
    return format_html('<span class="oa-mark oa-{}">{} {}</span>', kind, _SIGNS[kind], word)


def outcome_mark(outcome: str) -> SafeString:
    """Return a row's own outcome."""
    return mark(_OWN.get(outcome, "none"), dict(AuditEvent.Outcome.choices).get(outcome, outcome))


def derived_mark(outcome: str) -> SafeString:
    """Return the derived outcome of a process or step."""
    return mark(_DERIVED.get(outcome, "none"), DerivedOutcome(outcome).label)


def registration_mark(registration: RegistrationAuditEvent) -> SafeString:
    """Return whether a registration says success."""
    if registration.success:
        return mark("good", _("registered"))
    return mark("bad", pgettext("outcome", "failed"))


def login_mark(login: LoginAuditEvent) -> SafeString:
    """Return what a sign-in event was, with the sign of its outcome."""
    failed = login.status == LoginAuditEvent.FAILED
    return mark("bad" if failed else _OWN.get(login.outcome, "none"), login.get_status_display())


def status_mark(request: RequestAuditEvent) -> SafeString:
    """Return the status that the client got, with the sign of the outcome."""
    word = pgettext("status", "none") if request.status_code is None else request.status_code
    return mark(_OWN.get(request.outcome, "none"), word)


def moment(value: datetime) -> str:
    """Return a time in UTC with microseconds, whatever the time zone of the site."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds") + " UTC"


def time(value: datetime) -> SafeString:
    """Return a time in UTC on one line."""
    return format_html('<span class="oa-time">{}</span>', moment(value))


def duration(value: float | None) -> str:
    """Return a duration in ms."""
    return NOTHING if value is None else f"{value:,.1f}".replace(",", "\N{NO-BREAK SPACE}")


def shortened(text: str, length: int = 80) -> str | SafeString:
    """Return ``text`` for a list: what is longer than ``length`` is cut there and whole in the tooltip."""
    text = unturned(text)
    if len(text) <= length:
        return text or NOTHING
    return format_html('<span title="{}">{}…</span>', text, text[:length])


def actor_of(event: AuditEvent, length: int = 80) -> str | SafeString:
    """Return the name of the actor, else whose key it is."""
    key = getattr(event, "user", None) or getattr(event, "created_by", None)
    return shortened(event.actor_name or (_("user {key}").format(key=key) if key else ""), length)


def block(text: str | None) -> str | SafeString:
    """Return a text of many lines as it is; it takes the focus, so that the keyboard can scroll it."""
    return NOTHING if not text else format_html('<pre class="oa-block" tabindex="0">{}</pre>', text)


def body(text: str | None) -> str | SafeString:
    """Return a recorded body: JSON on lines of its own, anything else as it is."""
    return block(text and indented(text))


def pretty_json(value: Any) -> str | SafeString:
    """Return a JSON value, indented."""
    if value is None or value in ([], {}):
        return NOTHING
    return block(unturned(json.dumps(value, indent=2, ensure_ascii=False)))


def record_link(admin: ModelAdmin[Any], model: type[Model], pk: UUID | None, text: str | None = "") -> str | SafeString:
    """Return a link to a record that may have left no row; without ``text`` it shows the end of the id."""
    if pk is None:
        return NOTHING
    url = reverse(
        f"admin:{model._meta.app_label}_{model._meta.model_name}_change",
        args=[pk],
        current_app=admin.admin_site.name,
    )
    return format_html('<a href="{}">{}</a>', url, unturned(text or "") or f"…{str(pk)[-12:]}")


def loaded(row: Model, relation: str) -> Any:
    """Return the related row when it was read together with ``row``; asking for it could fail, as it may be absent."""
    related: Any = row._meta.get_field(relation)
    return related.get_cached_value(row, default=None)


def listing_url(admin: ModelAdmin[Any], model: type[Model], **lookups: str) -> str:
    """Return the URL of a list with ``lookups`` as its filter."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
    return f"{reverse(name, current_app=admin.admin_site.name)}?{urlencode(lookups)}"


def trace_link(event: AuditEvent, *, whole: bool = False) -> str | SafeString:
    """Return the trace id, as a link where ``OTEL_AUDIT["TRACE_URL"]`` says where traces are."""
    if not event.trace_id:
        return NOTHING
    text = event.trace_id if whole else f"{event.trace_id[:8]}…"
    url = trace_url(event)
    if url is None:
        return format_html('<code title="{}">{}</code>', event.trace_id, text)
    return format_html('<a href="{}" title="{}" rel="noreferrer"><code>{}</code></a>', url, event.trace_id, text)
