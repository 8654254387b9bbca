"""Django's system checks for an audit trail: what is wrong, and what to write instead.

Each is a small function with an id of its own. None asks a database unless ``check --database`` was given.
"""

from __future__ import annotations

from otel_audit.checks import database, keys, site, telemetry
from otel_audit.checks.registry import CHECKS

__all__ = ["CHECKS", "database", "keys", "site", "telemetry"]
