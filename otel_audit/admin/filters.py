"""Filters of the lists that no column holds. None asks the database which values there are."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from otel_audit.outcomes import DerivedOutcome

__all__ = ["DerivedOutcomeFilter", "StatusClassFilter"]


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
