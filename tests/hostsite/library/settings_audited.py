"""The library with its audit trail in the database that it has anyway."""

from library.settings import *  # noqa: F403
from library.settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [*INSTALLED_APPS, "otel_audit"]
MIDDLEWARE = [*MIDDLEWARE, "otel_audit.middleware.AuditMiddleware"]
