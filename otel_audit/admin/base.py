"""What the five admin pages have in common: nobody changes anything, every field can be read, search finds by id.

Foreign keys have no constraint, so a related row may be absent: pages link by id and read related rows apart, and only
for users who may see them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.db.models import CharField, ForeignKey, Model, Q, QuerySet, TextField
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from otel_audit.admin.display import (
    NOTHING,
    actor_of,
    block,
    duration,
    moment,
    outcome_mark,
    pretty_json,
    shortened,
    trace_link,
)
from otel_audit.admin.report import may_download, report_query, report_view
from otel_audit.models import AuditEvent
from otel_audit.text import unturned

__all__ = ["ERROR", "EXTRA", "PROVENANCE", "AuditAdmin", "Raised", "Related", "Section", "may_view"]

#: A heading, or None, and the fields below it.
Section = tuple[Any, tuple[str, ...]]

#: The last section of every detail page.
PROVENANCE: Final[Section] = (
    _("Trace and provenance"),
    (
        "id",
        "trace_id_shown",
        "span_id",
        "parent_span_id",
        "observed_at_shown",
        "stored_at_shown",
        "schema_version",
        "changed_fields_shown",
        "stream_id",
        "stream_seq",
        "record_hash",
    ),
)
#: Shown where something was raised.
ERROR: Final[Section] = (_("Error"), ("error_type_shown", "error_message_shown", "error_stacktrace_shown"))
EXTRA: Final[Section] = (_("Extra information"), ("extra_informations_shown",))

#: Columns that can be large and that no list shows.
_LARGE: Final = frozenset(
    {
        "changed_fields",
        "description",
        "error_message",
        "error_stacktrace",
        "extra_informations",
        "request_body",
        "response_body",
    }
)
#: A span id, or the beginning of a trace id: lists show 8 of its digits, the report 16, each with an ellipsis.
_ID_PART: Final = re.compile(r"[0-9a-f]{8,31}")
_SPAN_ID_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class Related:
    """A table of related rows on a detail page; ``more`` is a link to those it leaves out."""

    title: Any
    columns: Sequence[Any]
    rows: Sequence[Sequence[Any]]
    empty: Any = ""
    more: str | SafeString = ""
    #: Numbers of the rows that belong to the row above them.
    indented: frozenset[int] = field(default_factory=frozenset)


class Raised(NamedTuple):
    """What a request, process or step raised."""

    type: str
    message: str
    stacktrace: str


def may_view(request: HttpRequest, model: type[Model]) -> bool:
    """Say whether the user may see rows of ``model``."""
    return request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")


class Listing(ChangeList):
    """A list page that leaves large columns in the database and joins what the user may see."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        """Return the rows of the page without their large columns.

        Raises:
            IncorrectLookupParameters: a filter holds a NUL, which PostgreSQL refuses only when it is asked.
        """
        filters = (values for name, values in request.GET.lists() if name != SEARCH_VAR)  # the search checks itself
        if any("\0" in value for values in filters for value in values):
            raise IncorrectLookupParameters
        queryset = super().get_queryset(request, *args, **kwargs)
        audit_admin: AuditAdmin = self.model_admin  # type: ignore[assignment]  # made by its `get_changelist` alone
        joined = [name for name, model in audit_admin.joined.items() if may_view(request, model)]
        if joined:
            queryset = queryset.select_related(*joined)
        large = _large_columns(self.model)
        for name in joined:
            large += [f"{name}__{column}" for column in _large_columns(audit_admin.joined[name])]
        return queryset.defer(*large)


def _large_columns(model: type[Model]) -> list[str]:
    return [column.name for column in model._meta.concrete_fields if column.name in _LARGE]


class AuditAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the stubs' generics do not exist at run time
    """Read-only pages of one model of the audit trail."""

    list_per_page = 100
    list_max_show_all = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None
    empty_value_display = NOTHING
    sortable_by = ("began",)
    change_list_template = "otel_audit/admin/change_list.html"
    change_form_template = "otel_audit/admin/change_form.html"
    search_help_text = _("Names, actor, path, or a record id, trace id or span id")

    #: What the detail page shows.
    sections: ClassVar[tuple[Section, ...]] = ()
    #: Foreign keys whose rows the list shows, for users who may see them.
    joined: ClassVar[dict[str, type[Model]]] = {}

    class Media:
        css = {"all": ["otel_audit/admin.css"]}

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        """Nobody adds audit rows by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes audit rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes audit rows."""
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the sections of the detail page; that of the error where something was raised."""
        raised = None if obj is None else self.raised(obj)
        sections = [section for section in self.sections if section is not ERROR or raised is not None]
        return [(heading, {"fields": fields}) for heading, fields in sections]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Return every field of the page."""
        return flatten_fieldsets(self.get_fieldsets(request, obj))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the class of the list page."""
        return Listing

    def get_urls(self) -> list[URLPattern]:
        """Add the report to the pages of this model."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_report"
        view = self.admin_site.admin_view(report_view)
        return [path("report.pdf", view, name=name), *super().get_urls()]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find by record id, span id, trace id or the beginning of one where the term is one, else in names."""
        term = search_term.strip()
        word = term.removesuffix("…")
        part = word.lower()
        if _ID_PART.fullmatch(part):
            # Between two values, which an index answers under any collation; "g" comes after every digit.
            found = Q(trace_id__gte=part, trace_id__lt=f"{part}g")
            if len(part) == _SPAN_ID_LENGTH:
                return queryset.filter(found | Q(span_id=part)), False
            named, _duplicates = super().get_search_results(request, queryset, word)
            return queryset.filter(found | Q(pk__in=named.order_by().values("pk"))), False
        try:
            record = UUID(term)
        except ValueError:
            return super().get_search_results(request, queryset, search_term)
        found = Q(pk=record) | Q(trace_id=term.lower())
        for relation in self.opts.get_fields():
            if isinstance(relation, ForeignKey):
                found |= Q(**{relation.attname: record})
        return queryset.filter(found), False

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the row of a detail page; no text in it can turn round what stands beside it."""
        row = super().get_object(request, *args, **kwargs)
        for column in () if row is None else row._meta.concrete_fields:
            if isinstance(column, (CharField, TextField)) and isinstance(value := getattr(row, column.attname), str):
                setattr(row, column.attname, unturned(value))
        return row

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, with a button for the report where the user may see all that it shows."""
        return super().changelist_view(request, {**(extra_context or {}), "report_url": self._report_url(request)})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show the first fields, the related rows that the user may see, and the other fields."""
        obj = context.get("original")
        if obj is not None:
            context["related_tables"] = self.related(request, obj)
            context["subtitle"] = self.headline(obj)[:120] or str(obj)
        return super().render_change_form(request, context, *args, **kwargs)

    def headline(self, obj: Any) -> str:
        """Return what the detail page is headed with."""
        return str(obj.name)

    def related(self, request: HttpRequest, obj: Any) -> list[Related]:
        """Return the tables of rows that belong to ``obj``."""
        return []

    def raised(self, obj: Any) -> Raised | None:
        """Return what ``obj`` raised."""
        return None

    def _report_url(self, request: HttpRequest) -> str:
        if not may_download(request):
            return ""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_report"
        return reverse(name, current_app=self.admin_site.name) + report_query(request)

    @admin.display(description=_("Began at (UTC)"), ordering="id")
    def began(self, obj: AuditEvent) -> SafeString:
        """Return when it began; ids sort by that time."""
        whole = moment(obj.datetime)
        return format_html('<span class="oa-time" title="{}">{}</span>', whole, whole[: -len("000 UTC")])

    @admin.display(description=_("Actor"))
    def actor(self, obj: AuditEvent) -> str | SafeString:
        """Return the name of the actor, else the key."""
        return actor_of(obj, 30)

    @admin.display(description=_("Trace"))
    def trace(self, obj: AuditEvent) -> str | SafeString:
        """Return the beginning of the trace id."""
        return trace_link(obj)

    @admin.display(description=_("Name"))
    def name_short(self, obj: Any) -> str | SafeString:
        """Return the name, cut where it is long."""
        return shortened(obj.name, 40)

    @admin.display(description=_("Duration (ms)"))
    def took_ms(self, obj: Any) -> str:
        """Return how long the process or step took."""
        return duration(obj.duration_ms)

    @admin.display(description=_("Began at"))
    def datetime_shown(self, obj: AuditEvent) -> str:
        """Return when it began, in UTC."""
        return moment(obj.datetime)

    @admin.display(description=_("Observed at"))
    def observed_at_shown(self, obj: AuditEvent) -> str:
        """Return when this site took it, in UTC."""
        return moment(obj.observed_at)

    @admin.display(description=_("Stored at"))
    def stored_at_shown(self, obj: AuditEvent) -> str:
        """Return when the row was written, in UTC."""
        return moment(obj.stored_at)

    @admin.display(description=_("Outcome"))
    def outcome_shown(self, obj: AuditEvent) -> SafeString:
        """Return the outcome that the record itself says."""
        return outcome_mark(obj.outcome)

    @admin.display(description=_("Error type"))
    def error_type_shown(self, obj: AuditEvent) -> str:
        """Return the class of the error."""
        raised = self.raised(obj)
        return raised.type if raised else NOTHING

    @admin.display(description=_("Error message"))
    def error_message_shown(self, obj: AuditEvent) -> str | SafeString:
        """Return the message of the error, line by line."""
        raised = self.raised(obj)
        return block(raised and raised.message)

    @admin.display(description=_("Error stack trace"))
    def error_stacktrace_shown(self, obj: AuditEvent) -> str | SafeString:
        """Return the stack trace, line by line."""
        raised = self.raised(obj)
        return block(raised and raised.stacktrace)

    @admin.display(description=_("Trace id"))
    def trace_id_shown(self, obj: AuditEvent) -> str | SafeString:
        """Return the whole trace id."""
        return trace_link(obj, whole=True)

    @admin.display(description=_("Changed fields"))
    def changed_fields_shown(self, obj: AuditEvent) -> str | SafeString:
        """Return what was cut, escaped or redacted before it was stored."""
        return pretty_json(obj.changed_fields)

    @admin.display(description=_("Extra information"))
    def extra_informations_shown(self, obj: AuditEvent) -> str | SafeString:
        """Return the extra data as indented JSON."""
        return pretty_json(obj.extra_informations)
