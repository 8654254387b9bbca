"""Signs, words and numbers of the report. Every state has a sign and a word; its colour only repeats them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import pgettext
from reportlab.lib.colors import Color

from otel_audit.models import AuditEvent, LoginAuditEvent
from otel_audit.outcomes import DerivedOutcome
from otel_audit.reports.sheet import AMBER, GREEN, GREY, INK, RED
from otel_audit.reports.table import Cell
from otel_audit.trace_links import trace_url

__all__ = [
    "NOTHING",
    "Mark",
    "count",
    "derived",
    "duration",
    "login_cell",
    "milliseconds",
    "moment",
    "status_cell",
    "trace",
    "who",
]


#: Where a row has no value.
NOTHING: Final = "\N{EN DASH}"


class Mark(NamedTuple):
    """How a state is shown."""

    sign: str
    word: str
    color: Color


_DERIVED: Final[dict[str, tuple[str, Color]]] = {
    DerivedOutcome.SUCCEEDED: ("✓", GREEN),
    DerivedOutcome.FAILED: ("✗", RED),
    DerivedOutcome.INCOMPLETE: ("◐", AMBER),
    DerivedOutcome.UNKNOWN: ("?", GREY),
}
_OWN: Final[dict[str, tuple[str, Color]]] = {
    AuditEvent.Outcome.SUCCESS: ("✓", GREEN),
    AuditEvent.Outcome.FAILURE: ("✗", RED),
    AuditEvent.Outcome.UNKNOWN: ("?", GREY),
}


def derived(outcome: str) -> Mark:
    """Return how the derived outcome of a process or step is shown."""
    sign, color = _DERIVED[outcome]
    return Mark(sign, str(DerivedOutcome(outcome).label), color)


def registered(success: bool) -> Mark:
    """Return how a registration is shown."""
    if success:
        return Mark("✓", _("registered"), GREEN)
    return Mark("✗", pgettext("outcome", "failed"), RED)


def missing() -> Mark:
    """Return how a registration that was expected and did not come is shown."""
    return Mark("◐", _("missing"), AMBER)


def status_cell(status_code: int | None, outcome: str) -> Cell:
    """Return the status that a client got, with the sign of the outcome."""
    sign, color = _OWN.get(outcome, ("?", GREY))
    if status_code is None:
        return Cell(sign + " " + pgettext("status", "none"), color)
    if 400 <= status_code < 500:
        color = AMBER
    return Cell(f"{sign} {status_code}", color)


def login_cell(login: LoginAuditEvent) -> Cell:
    """Return what a sign-in event was, with the sign of its outcome."""
    sign, color = _OWN.get(login.outcome, ("?", GREY))
    if login.status == LoginAuditEvent.FAILED:
        sign, color = "✗", RED
    return Cell(f"{sign} {login.get_status_display()}", color)


def who(name: str, key: str | None) -> Cell:
    """Return the actor: the name, else the key, else that nobody was signed in."""
    if name:
        return Cell(name, INK)
    if key:
        return Cell(_("user {key}").format(key=key), INK)
    return Cell(_("anonymous"), GREY)


def moment(value: datetime, timespec: str = "milliseconds") -> str:
    """Return a time in UTC."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", timespec)


def milliseconds(value: float | None) -> str:
    """Return a duration in ms with as many digits as are of use."""
    if value is None:
        return NOTHING
    return f"{value:.1f}" if value < 10 else count(round(value))


def duration(ms: float) -> str:
    """Return a duration in the unit that suits its length."""
    for unit, size in (
        (pgettext("unit", "d"), 86_400_000),
        (pgettext("unit", "h"), 3_600_000),
        (pgettext("unit", "min"), 60_000),
        (pgettext("unit", "s"), 1000),
    ):
        if ms >= 10 * size:
            return f"{count(round(ms / size))} {unit}"
    return f"{milliseconds(ms)} ms"


def count(number: int) -> str:
    """Return a number with its digits in groups of three."""
    return f"{number:,}".replace(",", "\N{NO-BREAK SPACE}")


def trace(event: AuditEvent) -> Cell:
    """Return the beginning of a trace id, enough to find it by; a click leads to the trace where it is shown."""
    return Cell(f"{event.trace_id[:16]}…" if event.trace_id else NOTHING, GREY, trace_url(event))
