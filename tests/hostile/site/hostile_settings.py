"""A small site, with and without the audit trail: what differs stands in ``HOSTILE_SETTINGS``."""

import json
import os

GIVEN = json.loads(os.environ["HOSTILE_SETTINGS"])

SECRET_KEY = GIVEN["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
USE_TZ = True
ROOT_URLCONF = "hostile_urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = GIVEN["DATABASES"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "rest_framework",
    "rest_framework_simplejwt",
]
MIDDLEWARE = [
    "hostile_middleware.Outer",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "hostile_middleware.Inner",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework_simplejwt.authentication.JWTAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"named": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {"ours": {"class": "logging.FileHandler", "filename": GIVEN["LOG"], "formatter": "named"}},
    "loggers": {
        name: {"handlers": ["ours"], "level": "DEBUG", "propagate": False}
        for name in ("otel_audit", "otel_audit_exporters")
    },
}
if "OTEL_AUDIT" in GIVEN:
    OTEL_AUDIT = GIVEN["OTEL_AUDIT"]
    INSTALLED_APPS += ["otel_audit"]
    DATABASE_ROUTERS = ["otel_audit.routers.AuditRouter"]
    MIDDLEWARE.insert(-1, "otel_audit.middleware.AuditMiddleware")
if "CANARIES" in GIVEN:
    CANARIES = GIVEN["CANARIES"]
    LOGGING["loggers"]["opentelemetry"] = LOGGING["loggers"]["otel_audit"]
