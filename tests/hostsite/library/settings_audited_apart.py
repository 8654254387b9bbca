"""The library with its audit trail in a database of its own."""

from library.settings_audited import *  # noqa: F403
from library.settings_audited import DATABASES, HERE, REAL_DATABASES

DATABASES = {
    **DATABASES,
    "audit": REAL_DATABASES.get("audit") or {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / "audit.sqlite3"},
}
DATABASE_ROUTERS = ["otel_audit.routers.AuditRouter"]
OTEL_AUDIT = {"DATABASE": "audit"}
