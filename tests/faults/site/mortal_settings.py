"""A small site whose views kill their process; what differs stands in ``MORTAL_SETTINGS``."""

import json
import os

GIVEN = json.loads(os.environ["MORTAL_SETTINGS"])

SECRET_KEY = "a-key-for-mortal-tests-that-is-long-enough"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "mortal_urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = GIVEN["DATABASES"]
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # kill -9 takes nothing that was written, synced or not
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
DATABASE_ROUTERS = ["otel_audit.routers.AuditRouter"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "otel_audit"]
MIDDLEWARE = ["otel_audit.middleware.AuditMiddleware"]
OTEL_AUDIT = GIVEN["OTEL_AUDIT"]
