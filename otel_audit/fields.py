"""A CharField that cuts what does not fit and says so, so that a long value never costs a record.

A client decides how many values are too long: the log says so once a minute for each field, with the count.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import models

from otel_audit.floods import Flood

__all__ = ["TruncatingCharField"]

logger = logging.getLogger("otel_audit.truncation")

_flood = Flood()


class TruncatingCharField(models.CharField):  # type: ignore[type-arg]  # the stubs' generics do not exist at run time
    """A ``CharField`` that cuts values to ``max_length`` and warns on the logger ``otel_audit.truncation``."""

    def fit(self, value: str) -> str:
        """Return ``value`` cut to ``max_length``; the warning names the field and the original length."""
        if self.max_length is None or len(value) <= self.max_length:
            return value
        if count := _flood.due(str(self)):
            logger.warning(
                "Truncating value for field '%s' to %d characters. Original length: %d.%s",
                self.name,
                self.max_length,
                len(value),
                f" ({count} since the last such line)" if count > 1 else "",
            )
        return value[: self.max_length]

    def get_prep_value(self, value: Any) -> Any:
        """Cut on the way to the database."""
        value = super().get_prep_value(value)
        return self.fit(value) if isinstance(value, str) else value
