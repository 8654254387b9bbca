"""The pages of requests and sign-ins."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from otel_audit.admin.base import ERROR, EXTRA, PROVENANCE, AuditAdmin, Raised, Related
from otel_audit.admin.display import (
    NOTHING,
    body,
    duration,
    loaded,
    login_mark,
    record_link,
    shortened,
    status_mark,
)
from otel_audit.admin.filters import PeriodFilter, StatusClassFilter
from otel_audit.admin.related import (
    logins_of,
    processes_of,
    request_of,
)
from otel_audit.models import (
    LoginAuditEvent,
    RequestAuditEvent,
)

__all__ = ["LoginAdmin", "RequestAdmin"]

_ACTOR = (gettext_lazy("Actor"), ("actor_name", "actor_type", "user", "service_name"))


@admin.register(RequestAuditEvent)
class RequestAdmin(AuditAdmin):
    """Requests with the status that their client got."""

    list_display = ("began", "status", "method", "path", "actor", "response_time_ms", "address", "trace")
    list_filter = (StatusClassFilter, "outcome", ("datetime", PeriodFilter))
    search_fields = ("url", "route", "actor_name", "user__exact", "ip_addresses__startswith", "error_type")
    sections = (
        (
            None,
            (
                "datetime_shown",
                "method",
                "url",
                "query_params",
                "route",
                "status_shown",
                "outcome_shown",
                "action",
                "response_time_ms",
            ),
        ),
        _ACTOR,
        (gettext_lazy("Client"), ("ip_addresses", "user_agent", "session_id", "request_type")),
        ERROR,
        (
            gettext_lazy("Bodies"),
            ("request_size", "request_body_shown", "response_size", "response_body_shown"),
        ),
        EXTRA,
        PROVENANCE,
    )

    def headline(self, obj: Any) -> str:
        """Return method and path."""
        return f"{obj.method} {obj.url}"

    def related(self, request: HttpRequest, obj: Any) -> list[Related]:
        """Return the sign-ins and processes of the request."""
        return [*logins_of(self, request, obj), *processes_of(self, request, obj)]

    def raised(self, obj: Any) -> Raised | None:
        """Return what the request raised."""
        error = Raised(obj.error_type or "", obj.error_message or "", obj.error_stacktrace or "")
        return error if any(error) else None

    @admin.display(description=gettext_lazy("Status"))
    def status(self, obj: RequestAuditEvent) -> SafeString:
        """Return the status with its sign."""
        return status_mark(obj)

    @admin.display(description=gettext_lazy("Path"))
    def path(self, obj: RequestAuditEvent) -> str | SafeString:
        """Return the path, cut where it is long."""
        return shortened(obj.url, 60)

    @admin.display(description=gettext_lazy("Duration (ms)"))
    def response_time_ms(self, obj: RequestAuditEvent) -> str:
        """Return how long the request took."""
        return duration(obj.response_time)

    @admin.display(description=gettext_lazy("Address"))
    def address(self, obj: RequestAuditEvent) -> str:
        """Return the client's address."""
        return obj.ip_addresses or NOTHING

    @admin.display(description=gettext_lazy("Status code"))
    def status_shown(self, obj: RequestAuditEvent) -> SafeString:
        """Return the status with its sign."""
        return status_mark(obj)

    @admin.display(description=gettext_lazy("Request body"))
    def request_body_shown(self, obj: RequestAuditEvent) -> str | SafeString:
        """Return the request body, indented where it is JSON."""
        return body(obj.request_body)

    @admin.display(description=gettext_lazy("Response body"))
    def response_body_shown(self, obj: RequestAuditEvent) -> str | SafeString:
        """Return the response body, indented where it is JSON."""
        return body(obj.response_body)


@admin.register(LoginAuditEvent)
class LoginAdmin(AuditAdmin):
    """Sign-ins, sign-outs, failed attempts and token events."""

    list_display = ("began", "event", "username_short", "actor", "method", "reason_short", "address", "trace")
    list_filter = ("status", "outcome", ("datetime", PeriodFilter))
    search_fields = ("username", "actor_name", "user__exact", "method", "reason")
    joined = {"request": RequestAuditEvent}
    sections = (
        (
            None,
            (
                "datetime_shown",
                "event_shown",
                "outcome_shown",
                "action",
                "username",
                "method",
                "reason",
                "session_id",
                "request_shown",
            ),
        ),
        _ACTOR,
        EXTRA,
        PROVENANCE,
    )

    def headline(self, obj: Any) -> str:
        """Return what it was and who."""
        return " · ".join(filter(None, [str(obj.get_status_display()), obj.username or obj.actor_name]))

    def related(self, request: HttpRequest, obj: Any) -> list[Related]:
        """Return the request in which it happened."""
        return request_of(self, request, obj)

    @admin.display(description=gettext_lazy("Event"))
    def event(self, obj: LoginAuditEvent) -> SafeString:
        """Return what it was, with its sign."""
        return login_mark(obj)

    @admin.display(description=gettext_lazy("Attempted user name"))
    def username_short(self, obj: LoginAuditEvent) -> str | SafeString:
        """Return the name, cut where it is long."""
        return shortened(obj.username, 40)

    @admin.display(description=gettext_lazy("Reason"))
    def reason_short(self, obj: LoginAuditEvent) -> str | SafeString:
        """Return the reason, cut where it is long."""
        return shortened(obj.reason)

    @admin.display(description=gettext_lazy("Address"))
    def address(self, obj: LoginAuditEvent) -> str | SafeString:
        """Return the client's address as a link to the request."""
        request = loaded(obj, "request")
        return record_link(self, RequestAuditEvent, obj.request_id, request.ip_addresses if request else "")

    @admin.display(description=gettext_lazy("Status"))
    def event_shown(self, obj: LoginAuditEvent) -> SafeString:
        """Return what it was, with its sign."""
        return login_mark(obj)

    @admin.display(description=gettext_lazy("Request"))
    def request_shown(self, obj: LoginAuditEvent) -> str | SafeString:
        """Return a link to the request."""
        return record_link(self, RequestAuditEvent, obj.request_id, str(obj.request_id))
