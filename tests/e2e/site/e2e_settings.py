"""The demo shop's settings with the databases and the audit settings that a test gives in ``E2E_SETTINGS``."""

import importlib
import json
import os

from shop.settings import *  # noqa: F403
from shop.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE, OTEL_AUDIT

GIVEN = json.loads(os.environ["E2E_SETTINGS"])

DEBUG = GIVEN.get("DEBUG", False)
INSTALLED_APPS = [*INSTALLED_APPS, "backoffice"]
DATABASES = {**DATABASES, **GIVEN["DATABASES"]}
OTEL_AUDIT = {**OTEL_AUDIT, **GIVEN.get("OTEL_AUDIT", {})}
if not GIVEN.get("MIDDLEWARE", True):
    MIDDLEWARE = [name for name in MIDDLEWARE if not name.startswith("otel_audit.")]
if module := os.environ.get("E2E_IMPORT"):
    importlib.import_module(module)  # a source file that the development server watches
