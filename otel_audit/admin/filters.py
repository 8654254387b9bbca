"""Filters of the lists that no column holds. None asks the database which values there are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.contrib.admin import DateFieldListFilter, SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters, ModelAdmin
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from otel_audit.outcomes import DerivedOutcome

__all__ = ["DerivedOutcomeFilter", "PeriodFilter", "StatusClassFilter"]


class StatusClassFilter(SimpleListFilter):
    """Requests by the class of their status code."""

    title = _("status class")
    parameter_name = "status_class"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        """Return the classes, and requests that got no status."""
        return [*((str(digit), f"{digit}xx") for digit in range(1, 6)), ("none", _("no status"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the requests of the chosen class; what is no class is no filter."""
        value = self.value()
        if value == "none":
            return queryset.filter(status_code__isnull=True)
        if value in {"1", "2", "3", "4", "5"}:
            first = int(value) * 100
            return queryset.filter(status_code__gte=first, status_code__lt=first + 100)
        return queryset


class DerivedOutcomeFilter(SimpleListFilter):
    """Processes and steps by how they ended."""

    title = _("outcome")
    parameter_name = "derived"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        """Return the outcomes that are derived."""
        return [(str(value), label) for value, label in DerivedOutcome.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows that ended so; what is no outcome is no filter."""
        value = self.value()
        return queryset.filter(derived_outcome=value) if value in DerivedOutcome.values else queryset


class PeriodFilter(DateFieldListFilter):
    """Rows by when they began: Django's links, and a form for any other period, in UTC."""

    template = "otel_audit/admin/period_filter.html"

    def __init__(self, field: Any, request: HttpRequest, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Read the ends of the period: an empty one is open, one without zone is UTC.

        Raises:
            IncorrectLookupParameters: one is no time.
        """
        self.ends: dict[str, str] = {}
        given: dict[str, str] = {}
        for name in (f"{field.name}__gte", f"{field.name}__lt"):
            written = params[name][-1].strip() if params.get(name) else ""
            if not written:
                params.pop(name, None)
                continue
            end = _utc(written)
            given[name], params[name] = written, [end.isoformat()]
            self.ends[name] = end.replace(tzinfo=None).isoformat(timespec="seconds")
        super().__init__(field, request, params, *args, **kwargs)
        self.date_params = given  # as the links have it, so that the one that was followed is marked
        self.kept: list[tuple[str, str]] = []
        #: The inputs of the form: what it is called, the parameter, what stands in it.
        self.inputs = [
            (label, name, self.ends.get(name, ""))
            for label, name in (
                (_("From (UTC)"), self.lookup_kwarg_since),
                (_("Before (UTC)"), self.lookup_kwarg_until),
            )
        ]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Return the links, and note what else narrows the list, for the form to keep."""
        others = changelist.get_query_string(remove=[self.field_generic, PAGE_VAR])
        self.kept = [(name, value) for name, values in QueryDict(others.removeprefix("?")).lists() for value in values]
        return super().choices(changelist)


def _utc(written: str) -> datetime:
    try:
        moment = parse_datetime(written)
        if moment is not None:
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise IncorrectLookupParameters
