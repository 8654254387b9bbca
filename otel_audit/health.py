"""A view that says whether the audit trail gets where it belongs. A site gives it a path of its own::

    path("audit-health/", health)

It is no readiness probe. Records wait safely on disk while the audit database is away: a load balancer that took the
site out of service then would turn trouble of the trail into an outage of the site, on all machines at once, as they
share that database. Watch it, and wake somebody; a liveness probe that restarts the process would be worse still.
"""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from otel_audit.delivery import delivery
from otel_audit.edges import edge
from otel_audit.request_policy import HEALTH
from otel_audit.request_scope import scope_of

__all__ = ["OLDEST_PENDING_S", "health"]

#: A record that has waited for so many seconds says that the drain does not keep up, or does not run.
OLDEST_PENDING_S: Final = 60.0
#: Who may look at the rows may see the figures.
PERMISSION: Final = "otel_audit.view_requestauditevent"
_DETAILS: Final = ("pending", "quarantined", "lost", "refused", "oldest_pending_s")


@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """Answer 200 ``{"status": "ok"}``, or 503 ``{"status": "failing"}``; with figures for who may see the audit trail.

    Failing is a spool directory that is full or cannot be used, records that neither spool nor database takes, and a
    record that has waited for more than a minute. What is lost or in quarantine is past: it is shown, and changes
    nothing.

    The default policy leaves the view's requests out, under whatever path; a rule of ``POLICY`` for that path counts.
    """
    found = _status()
    failing = found is None or is_failing(found)
    said: dict[str, Any] = {"status": "failing" if failing else "ok"}
    if found is not None and _may_see_details(request):
        said |= {key: found[key] for key in _DETAILS}
    _leave_out(request)
    return JsonResponse(said, status=503 if failing else 200)


def is_failing(found: dict[str, Any]) -> bool:
    """Whether the figures of `otel_audit.status` say that records do not get to the audit database."""
    oldest = found["oldest_pending_s"]
    return bool(found.get("spool_problem") or found["held"] or (oldest is not None and oldest > OLDEST_PENDING_S))


def _status() -> dict[str, Any] | None:
    with edge("health.status"):
        return delivery().status()
    return None


def _may_see_details(request: HttpRequest) -> bool:
    user = getattr(request, "user", None)
    with edge("health.user"):  # its session may lie in the database that is away
        return user is not None and bool(user.is_authenticated and user.has_perm(PERMISSION))
    return False


def _leave_out(request: HttpRequest) -> None:
    scope = scope_of(request)
    if scope is not None:
        scope.left_out = HEALTH
