"""The pages of processes, steps and registrations."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from otel_audit.admin.base import ERROR, EXTRA, PROVENANCE, AuditAdmin, Raised, Related
from otel_audit.admin.display import (
    derived_mark,
    loaded,
    outcome_mark,
    pretty_json,
    record_link,
    registration_mark,
    shortened,
)
from otel_audit.admin.filters import DerivedOutcomeFilter, PeriodFilter
from otel_audit.admin.related import (
    registrations_of,
    request_of,
    step_of,
    steps_of,
)
from otel_audit.models import (
    AuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit.outcomes import processes_with_outcome, steps_with_outcome

__all__ = ["ProcessAdmin", "RegistrationAdmin", "StepAdmin"]

_ACTOR = (gettext_lazy("Actor"), ("actor_name", "actor_type", "created_by", "service_name"))


class _DerivedAdmin(AuditAdmin):
    """Pages of what ended as its steps and registrations tell, whatever it says itself."""

    def raised(self, obj: Any) -> Raised | None:
        """Return what the process or step raised."""
        return _split(obj.extra_informations)[0]

    @admin.display(description=gettext_lazy("Extra information"))
    def extra_informations_shown(self, obj: AuditEvent) -> str | SafeString:
        """Return the extra data but the error, which has a section of its own, as indented JSON."""
        return pretty_json(_split(obj.extra_informations)[1])

    @admin.display(description=pgettext_lazy("of a process", "Outcome"))
    def derived(self, obj: Any) -> SafeString:
        """Return the derived outcome."""
        return derived_mark(obj.derived_outcome)

    @admin.display(description=gettext_lazy("Own outcome"))
    def outcome_shown(self, obj: AuditEvent) -> SafeString:
        """Return the outcome that the process or step itself says."""
        return outcome_mark(obj.outcome)


@admin.register(ProcessAuditEvent)
class ProcessAdmin(_DerivedAdmin):
    """Processes with the outcome that their steps and registrations tell."""

    list_display = ("began", "derived", "name_short", "actor", "took_ms", "request_link", "trace")
    list_filter = (DerivedOutcomeFilter, ("datetime", PeriodFilter))
    search_fields = ("name", "description", "actor_name", "created_by__exact")
    joined = {"request": RequestAuditEvent}
    sections = (
        (
            None,
            (
                "datetime_shown",
                "name",
                "derived",
                "outcome_shown",
                "action",
                "description",
                "took_ms",
                "request_shown",
            ),
        ),
        _ACTOR,
        ERROR,
        EXTRA,
        PROVENANCE,
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the processes with their outcome."""
        return processes_with_outcome(super().get_queryset(request))

    def related(self, request: HttpRequest, obj: Any) -> list[Related]:
        """Return the steps with their registrations, and the request."""
        return [*steps_of(self, request, obj), *request_of(self, request, obj)]

    @admin.display(description=gettext_lazy("Request"))
    def request_link(self, obj: ProcessAuditEvent) -> str | SafeString:
        """Return a link to the request."""
        request = loaded(obj, "request")
        text = f"{request.method} {request.url[:30]}" if request else ""
        return record_link(self, RequestAuditEvent, obj.request_id, text)

    @admin.display(description=gettext_lazy("Request"))
    def request_shown(self, obj: ProcessAuditEvent) -> str | SafeString:
        """Return a link to the request."""
        return record_link(self, RequestAuditEvent, obj.request_id, str(obj.request_id))


@admin.register(StepAuditEvent)
class StepAdmin(_DerivedAdmin):
    """Steps with the number of registrations that came and that were expected."""

    list_display = ("began", "derived", "name_short", "came", "process_link", "actor", "took_ms", "trace")
    list_filter = (DerivedOutcomeFilter, ("datetime", PeriodFilter))
    search_fields = ("name", "description", "actor_name", "created_by__exact")
    joined = {"process": ProcessAuditEvent}
    sections = (
        (
            None,
            (
                "datetime_shown",
                "name",
                "order",
                "derived",
                "outcome_shown",
                "action",
                "description",
                "total_registrations",
                "came",
                "took_ms",
                "process_shown",
            ),
        ),
        _ACTOR,
        ERROR,
        EXTRA,
        PROVENANCE,
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the steps with their outcome."""
        return steps_with_outcome(super().get_queryset(request))

    def related(self, request: HttpRequest, obj: Any) -> list[Related]:
        """Return the registrations, those that are missing too."""
        return registrations_of(self, request, obj)

    @admin.display(description=gettext_lazy("Name"))
    def name_short(self, obj: StepAuditEvent) -> str | SafeString:
        """Return order and name, cut where it is long."""
        return shortened(obj.name if obj.order is None else f"{obj.order}. {obj.name}", 40)

    @admin.display(description=gettext_lazy("Registrations"))
    def came(self, obj: Any) -> str:
        """Return how many registrations came of those expected."""
        return _("{came} of {expected}").format(came=obj.arrived, expected=obj.total_registrations)

    @admin.display(description=gettext_lazy("Process"))
    def process_link(self, obj: StepAuditEvent) -> str | SafeString:
        """Return a link to the process."""
        process = loaded(obj, "process")
        return record_link(self, ProcessAuditEvent, obj.process_id, process.name[:40] if process else "")

    @admin.display(description=gettext_lazy("Process"))
    def process_shown(self, obj: StepAuditEvent) -> str | SafeString:
        """Return a link to the process."""
        return record_link(self, ProcessAuditEvent, obj.process_id, str(obj.process_id))


@admin.register(RegistrationAuditEvent)
class RegistrationAdmin(AuditAdmin):
    """What steps registered."""

    list_display = ("began", "registered", "name_short", "step_link", "actor", "trace")
    list_filter = ("success", ("datetime", PeriodFilter))
    search_fields = ("name", "description", "actor_name", "created_by__exact")
    joined = {"step": StepAuditEvent}
    sections = (
        (
            None,
            (
                "datetime_shown",
                "name",
                "success_shown",
                "outcome_shown",
                "action",
                "description",
                "step_shown",
            ),
        ),
        _ACTOR,
        EXTRA,
        PROVENANCE,
    )

    def related(self, request: HttpRequest, obj: Any) -> list[Related]:
        """Return the step and its process."""
        return step_of(self, request, obj)

    @admin.display(description=gettext_lazy("Result"))
    def registered(self, obj: RegistrationAuditEvent) -> SafeString:
        """Return whether it says success."""
        return registration_mark(obj)

    @admin.display(description=gettext_lazy("Step"))
    def step_link(self, obj: RegistrationAuditEvent) -> str | SafeString:
        """Return a link to the step."""
        step = loaded(obj, "step")
        return record_link(self, StepAuditEvent, obj.step_id, step.name[:40] if step else "")

    @admin.display(description=gettext_lazy("Success"))
    def success_shown(self, obj: RegistrationAuditEvent) -> SafeString:
        """Return whether it says success."""
        return registration_mark(obj)

    @admin.display(description=gettext_lazy("Step"))
    def step_shown(self, obj: RegistrationAuditEvent) -> str | SafeString:
        """Return a link to the step."""
        return record_link(self, StepAuditEvent, obj.step_id, str(obj.step_id))


def _split(extra: Any) -> tuple[Raised | None, Any]:
    """Return the error that the exporter put into the extra data, and the rest; a site's own data stays as it is."""
    error = extra.get("exception") if isinstance(extra, dict) else None
    if not isinstance(error, dict) or not error.get("type") or not error.keys() <= set(Raised._fields):
        return None, extra
    rest = {key: value for key, value in extra.items() if key != "exception"}
    return Raised(*(str(error.get(field) or "") for field in Raised._fields)), rest
