"""Migrates the database of the site, and every other one as an audit database, in one process."""

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402

for alias in settings.DATABASES:
    if alias == "default":
        call_command("migrate", verbosity=0)
    else:
        settings.OTEL_AUDIT = {**settings.OTEL_AUDIT, "DATABASE": alias}
        call_command("migrate", "otel_audit", database=alias, verbosity=0)
