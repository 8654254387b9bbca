"""What makes a value fit its column.

A value that does not fit is stored as well as it can be and named in ``changed_fields``; it never costs the record.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from django.db import models

from otel_audit.fields import TruncatingCharField
from otel_audit.models import AuditEvent
from otel_audit.originals import original_text
from otel_audit.text import storable

__all__ = ["fitted", "number"]

#: Makes a value fit its column.
Fit = Callable[[Any], Any]

_INT4: Final = 2**31 - 1
_INT8: Final = 2**63 - 1


class Column(NamedTuple):
    """How a value gets into one column: what makes it fit, and how long plain text may be that fits as it is."""

    attname: str
    name: str
    fit: Fit | None
    length: int
    default: Callable[[], Any]


@cache
def _plan(model: type[AuditEvent]) -> tuple[Column, ...]:
    """Return the columns of ``model``, in their order."""
    return tuple(
        Column(field.attname, field.name, _fitter(field), _length(field), field.get_default)
        for field in model._meta.concrete_fields
    )


def fitted(model: type[AuditEvent], columns: Mapping[str, Any], changed: list[str]) -> list[Any]:
    """Return what each column of ``model`` gets of ``columns``, in the order in which it takes their values.

    Args:
        model: whose row it is to be.
        columns: values by name; a column that is not there gets its default.
        changed: takes the names of columns whose value had to be changed to fit.
    """
    values = []
    for attname, name, fit, length, default in _plan(model):
        if attname not in columns:
            values.append(default())
            continue
        value = columns[attname]
        # Most are nothing, or short plain text, for which looking at it is cheaper than making it fit.
        if not (
            value is None
            or fit is None
            or (type(value) is str and len(value) <= length and value.isascii() and value.isprintable())
        ):
            written, value = value, fit(value)
            if value is not written and value != written and name not in changed:
                changed.append(name)
                if isinstance(written, str):
                    changed += original_text(name, written)
        values.append(value)
    return values


def number(value: Any) -> int | float | None:
    """Return ``value`` as a finite number, None where it is none."""
    try:
        return value if isinstance(value, int) else float(value) if math.isfinite(float(value)) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _length(field: Any) -> int:
    is_text = isinstance(field, models.CharField | models.TextField)
    return (field.max_length or sys.maxsize) if is_text else -1


def _fitter(field: Any) -> Fit | None:
    if isinstance(field, models.JSONField):
        return _storable_json
    if isinstance(field, TruncatingCharField):
        return lambda value: field.fit(_text(value))
    if isinstance(field, models.CharField | models.TextField):
        return lambda value: _text(value)[: field.max_length]
    if isinstance(field, models.IntegerField):
        limit = _INT8 if isinstance(field, models.BigIntegerField) else _INT4
        return lambda value: _bounded(value, limit)
    return number if isinstance(field, models.FloatField) else None


def _text(value: Any) -> str:
    return storable(value if isinstance(value, str) else str(value))


def _bounded(value: Any, limit: int) -> int | None:
    found = number(value)
    return None if found is None else int(max(-limit - 1, min(found, limit)))


def _storable_json(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(key)): _storable_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return str(value)
    return value
