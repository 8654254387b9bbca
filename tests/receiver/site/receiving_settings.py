"""The settings of a site that receives; what differs stands in ``RECEIVING_SETTINGS``."""

import json
import os

GIVEN = json.loads(os.environ["RECEIVING_SETTINGS"])

SECRET_KEY = GIVEN.get("SECRET_KEY", "a-key-for-a-receiving-site-that-is-long-enough")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "receiving_urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = GIVEN["DATABASES"]
DATABASE_ROUTERS = ["otel_audit.routers.AuditRouter"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "otel_audit", "otel_audit.receiver"]
MIDDLEWARE = ["otel_audit.middleware.AuditMiddleware"]
OTEL_AUDIT = GIVEN["OTEL_AUDIT"]
WSGI_APPLICATION = "receiving_wsgi.application"
