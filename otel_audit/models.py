"""The five audit models: append-only rows that the exporter writes and every reader reads.

Foreign keys carry no database constraint: rows arrive in any order, from several processes, after a crash.
Newest first is ``-id``, as ids are UUIDv7 (`otel_audit.ids`).
"""

from __future__ import annotations

import uuid
from typing import Any, NoReturn

from django.db import models
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from otel_audit.exceptions import AppendOnlyError
from otel_audit.fields import TruncatingCharField
from otel_audit.ids import record_id

__all__ = [
    "AuditEvent",
    "LoginAuditEvent",
    "ProcessAuditEvent",
    "RegistrationAuditEvent",
    "RequestAuditEvent",
    "StepAuditEvent",
]


def new_id() -> uuid.UUID:
    """Return a new UUIDv7 primary key."""
    return uuid.UUID(record_id())


class AppendOnlyQuerySet(models.QuerySet[Any]):
    """A queryset that reads and inserts, and refuses to change or delete."""

    def update(self, **kwargs: Any) -> NoReturn:
        """Refuse: audit rows are append-only."""
        raise AppendOnlyError(self.model.__name__, "update()")

    def delete(self) -> NoReturn:
        """Refuse: audit rows are append-only."""
        raise AppendOnlyError(self.model.__name__, "delete()")

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: audit rows are append-only."""
        raise AppendOnlyError(self.model.__name__, "bulk_update()")

    def bulk_create(
        self,
        objs: Any,
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> list[Any]:
        """Insert rows; with ``update_conflicts=True`` refuse, as that would change existing ones."""
        if update_conflicts:
            raise AppendOnlyError(self.model.__name__, "bulk_create(update_conflicts=True)")
        return super().bulk_create(objs, batch_size, ignore_conflicts, False, *args, **kwargs)

    def update_or_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: audit rows are append-only."""
        raise AppendOnlyError(self.model.__name__, "update_or_create()")

    def _update(self, values: Any, *args: Any) -> int:
        """Refuse what ``loaddata`` would overwrite; it tries this before it inserts, so new rows pass."""
        if self.exists():
            raise AppendOnlyError(self.model.__name__, "saving over a row")
        return 0

    def _raw_delete(self, using: str | None) -> NoReturn:
        """Refuse the short cut that Django's deletion takes."""
        raise AppendOnlyError(self.model.__name__, "delete()")


class AuditEvent(models.Model):
    """What all five tables have in common: identity, time, trace, actor and provenance of a record."""

    class Outcome(models.TextChoices):
        """How it ended, in the words of the OpenTelemetry Audit Logging draft."""

        SUCCESS = "success", _("Success")
        FAILURE = "failure", _("Failure")
        UNKNOWN = "unknown", _("Unknown")

    id = models.UUIDField(_("record id"), primary_key=True, default=new_id, editable=False)
    datetime = models.DateTimeField(_("began at"), default=timezone.now)
    observed_at = models.DateTimeField(_("observed at"), default=timezone.now)
    stored_at = models.DateTimeField(_("stored at"), default=timezone.now)
    trace_id = models.CharField(_("trace id"), max_length=32, blank=True, default="")
    span_id = models.CharField(_("span id"), max_length=16, blank=True, default="")
    parent_span_id = models.CharField(_("parent span id"), max_length=16, blank=True, default="")
    service_name = TruncatingCharField(_("service"), max_length=255, blank=True, default="")
    actor_name = TruncatingCharField(_("actor"), max_length=255, blank=True, default="")
    actor_type = TruncatingCharField(_("actor type"), max_length=32, blank=True, default="")
    action = TruncatingCharField(_("action"), max_length=32, blank=True, default="")
    outcome = models.CharField(_("outcome"), max_length=16, choices=Outcome.choices, default=Outcome.UNKNOWN)
    schema_version = models.CharField(_("schema version"), max_length=16, blank=True, default="")
    changed_fields = models.JSONField(_("changed fields"), blank=True, default=list)
    extra_informations = models.JSONField(_("extra information"), null=True, blank=True)
    stream_id = models.CharField(_("stream"), max_length=64, blank=True, default="")
    stream_seq = models.BigIntegerField(_("number in stream"), null=True, blank=True)
    record_hash = models.CharField(_("record hash (SHA-256)"), max_length=64, blank=True, default="")

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["-id"]
        base_manager_name = "objects"
        default_permissions = ("view",)  # there is nothing else that anybody may do

    def __str__(self) -> str:
        return f"{capfirst(self._meta.verbose_name)} {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert a new row; saving one that exists is refused with `AppendOnlyError`."""
        if not self._state.adding:
            raise AppendOnlyError(type(self).__name__, "save()")
        kwargs["force_insert"] = True
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: audit rows are append-only."""
        raise AppendOnlyError(type(self).__name__, "delete()")


class RequestAuditEvent(AuditEvent):
    """One HTTP request and the response that the client really got."""

    user = TruncatingCharField(_("user identifier"), null=True, blank=True, max_length=255)
    ip_addresses = TruncatingCharField(_("IP address"), max_length=64, null=True, blank=True)
    method = TruncatingCharField(_("method"), max_length=32)
    url = TruncatingCharField(_("URL"), max_length=2048)
    route = TruncatingCharField(_("route"), max_length=255, blank=True, default="")
    query_params = TruncatingCharField(_("query parameters"), null=True, blank=True, max_length=2048)
    request_type = TruncatingCharField(_("scheme"), null=True, blank=True, max_length=10)
    user_agent = TruncatingCharField(_("user agent"), max_length=512, blank=True, default="")
    session_id = TruncatingCharField(_("session"), max_length=64, blank=True, default="")
    request_body = models.TextField(_("request body"), null=True, blank=True)
    request_size = models.BigIntegerField(_("request size (bytes)"), null=True, blank=True)
    response_body = models.TextField(_("response body"), null=True, blank=True)
    response_size = models.BigIntegerField(_("response size (bytes)"), null=True, blank=True)
    status_code = models.IntegerField(_("status code"), null=True, blank=True)
    response_time = models.FloatField(_("response time (ms)"), null=True, blank=True)
    error_type = TruncatingCharField(_("error type"), max_length=255, null=True, blank=True)
    error_message = models.TextField(_("error message"), null=True, blank=True)
    error_stacktrace = models.TextField(_("error stack trace"), null=True, blank=True)

    class Meta(AuditEvent.Meta):
        verbose_name = _("request event")
        verbose_name_plural = _("request events")
        indexes = [
            models.Index(fields=["user", "id"], name="otel_audit_req_user"),
            models.Index(fields=["route", "id"], name="otel_audit_req_route"),
            models.Index(fields=["status_code", "id"], name="otel_audit_req_status"),
            models.Index(fields=["outcome", "id"], name="otel_audit_req_outcome"),
            models.Index(fields=["trace_id", "id"], name="otel_audit_req_trace"),
            models.Index(fields=["datetime", "id"], name="otel_audit_req_time"),
            models.Index(fields=["session_id", "id"], name="otel_audit_req_session"),
        ]


class LoginAuditEvent(AuditEvent):
    """One sign-in, sign-out, failed attempt or token event."""

    SIGNIN = "Sign in"
    SIGNOUT = "Sign out"
    FAILED = "Failed"
    REFRESH = "Refresh"
    PASSWORD_CHANGE = "Password change"  # noqa: S105  # the name of an event
    PASSWORD_RESET = "Password reset"  # noqa: S105  # the name of an event
    PASSWORD_RESET_REQUEST = "Password reset request"  # noqa: S105  # the name of an event
    LOCKOUT = "Lockout"
    STATUS = (
        (SIGNIN, pgettext_lazy("sign-in event", "Sign in")),
        (SIGNOUT, pgettext_lazy("sign-in event", "Sign out")),
        (FAILED, pgettext_lazy("sign-in event", "Failed")),
        (REFRESH, pgettext_lazy("sign-in event", "Refresh")),
        (PASSWORD_CHANGE, pgettext_lazy("sign-in event", "Password change")),
        (PASSWORD_RESET, pgettext_lazy("sign-in event", "Password reset")),
        (PASSWORD_RESET_REQUEST, pgettext_lazy("sign-in event", "Password reset request")),
        (LOCKOUT, pgettext_lazy("sign-in event", "Lockout")),
    )

    status = TruncatingCharField(_("status"), choices=STATUS, max_length=32)
    user = TruncatingCharField(_("user identifier"), null=True, blank=True, max_length=255)
    username = TruncatingCharField(_("attempted user name"), max_length=255, blank=True, default="")
    method = TruncatingCharField(_("method"), max_length=64, blank=True, default="")
    reason = TruncatingCharField(_("reason"), max_length=255, blank=True, default="")
    session_id = TruncatingCharField(_("session"), max_length=64, blank=True, default="")
    request = models.ForeignKey(
        RequestAuditEvent,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="logins",
        verbose_name=_("request"),
    )

    class Meta(AuditEvent.Meta):
        verbose_name = _("login event")
        verbose_name_plural = _("login events")
        indexes = [
            models.Index(fields=["user", "id"], name="otel_audit_log_user"),
            models.Index(fields=["username", "id"], name="otel_audit_log_username"),
            models.Index(fields=["status", "id"], name="otel_audit_log_status"),
            models.Index(fields=["outcome", "id"], name="otel_audit_log_outcome"),
            models.Index(fields=["trace_id", "id"], name="otel_audit_log_trace"),
            models.Index(fields=["request", "id"], name="otel_audit_log_request"),
            models.Index(fields=["session_id", "id"], name="otel_audit_log_session"),
        ]


class ProcessAuditEvent(AuditEvent):
    """The span that began a business process. How it ended is derived from its steps by readers."""

    name = TruncatingCharField(_("name"), max_length=255)
    description = models.TextField(_("description"), null=True, blank=True)
    created_by = TruncatingCharField(_("user identifier"), null=True, blank=True, max_length=255)
    duration_ms = models.FloatField(_("duration (ms)"), null=True, blank=True)
    request = models.ForeignKey(
        RequestAuditEvent,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="processes",
        verbose_name=_("request"),
    )

    class Meta(AuditEvent.Meta):
        verbose_name = _("process event")
        verbose_name_plural = _("process events")
        indexes = [
            models.Index(fields=["created_by", "id"], name="otel_audit_pro_user"),
            models.Index(fields=["name", "id"], name="otel_audit_pro_name"),
            models.Index(fields=["outcome", "id"], name="otel_audit_pro_outcome"),
            models.Index(fields=["trace_id", "id"], name="otel_audit_pro_trace"),
            models.Index(fields=["request", "id"], name="otel_audit_pro_request"),
        ]


class StepAuditEvent(AuditEvent):
    """One step of a process, with the number of registrations that it is expected to make."""

    process = models.ForeignKey(
        ProcessAuditEvent,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="steps",
        verbose_name=_("process"),
    )
    name = TruncatingCharField(_("name"), max_length=255)
    description = models.TextField(_("description"), null=True, blank=True)
    order = models.IntegerField(_("order"), null=True, blank=True)
    total_registrations = models.IntegerField(_("expected registrations"), default=1)
    created_by = TruncatingCharField(_("user identifier"), null=True, blank=True, max_length=255)
    duration_ms = models.FloatField(_("duration (ms)"), null=True, blank=True)

    class Meta(AuditEvent.Meta):
        verbose_name = _("step event")
        verbose_name_plural = _("step events")
        indexes = [
            models.Index(fields=["created_by", "id"], name="otel_audit_stp_user"),
            models.Index(fields=["outcome", "id"], name="otel_audit_stp_outcome"),
            models.Index(fields=["trace_id", "id"], name="otel_audit_stp_trace"),
            models.Index(fields=["process", "id"], name="otel_audit_stp_process"),
        ]


class RegistrationAuditEvent(AuditEvent):
    """One fact that a step registered: something was checked or done, with success or without."""

    step = models.ForeignKey(
        StepAuditEvent,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="registrations",
        verbose_name=_("step"),
    )
    success = models.BooleanField(_("success"))
    name = TruncatingCharField(_("name"), max_length=255)
    description = models.TextField(_("description"), null=True, blank=True)
    created_by = TruncatingCharField(_("user identifier"), null=True, blank=True, max_length=255)

    class Meta(AuditEvent.Meta):
        verbose_name = _("registration event")
        verbose_name_plural = _("registration events")
        indexes = [
            models.Index(fields=["created_by", "id"], name="otel_audit_reg_user"),
            models.Index(fields=["outcome", "id"], name="otel_audit_reg_outcome"),
            models.Index(fields=["trace_id", "id"], name="otel_audit_reg_trace"),
            models.Index(fields=["step", "id"], name="otel_audit_reg_step"),
        ]
