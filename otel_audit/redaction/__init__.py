"""Takes secrets out of everything that leaves a request: text, query strings, bodies, headers, routes, objects.

`Redactor` is the one place where secrets are scrubbed. `names` knows the names of secrets, `patterns` their shapes,
`pairs` finds values by their names in any text; none of them knows Django or OpenTelemetry.
"""

from __future__ import annotations

from otel_audit.redaction.marks import MASK, Marker, is_mark
from otel_audit.redaction.payloads import Body
from otel_audit.redaction.redactor import Redactor
from otel_audit.redaction.sensitive import MARKED, sensitive

__all__ = ["MARKED", "MASK", "Body", "Marker", "Redactor", "is_mark", "sensitive"]
