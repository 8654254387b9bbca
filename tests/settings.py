"""The site that the suite runs in: two databases, the router, everything whose sign-ins are recorded.

``OTEL_AUDIT_TEST_DATABASE``, a JSON dict of ``ENGINE``, ``NAME``, ``USER``, ``PASSWORD``, ``HOST``, ``PORT``,
moves both databases to another server, where they are called ``NAME_default`` and ``NAME_audit``.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any


def _temporary_directory() -> Path:
    """Return a directory that goes when this process, but not a fork of it, exits."""
    directory, owner = Path(tempfile.mkdtemp(prefix="otel-audit-tests-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(remove)
    return directory


def _databases() -> dict[str, dict[str, Any]]:
    written = os.environ.get("OTEL_AUDIT_TEST_DATABASE")
    if written:
        server: dict[str, Any] = json.loads(written)
        name = server.pop("NAME", "otel_audit")
        if server["ENGINE"].endswith("mysql"):
            server["TEST"] = {"CHARSET": "utf8mb4"}
        # Each with a copy of its own: pytest-xdist writes the worker's name into the nested TEST of each.
        return {alias: {**deepcopy(server), "NAME": f"{name}_{alias}"} for alias in ("default", "audit")}
    # Files, not memory: other threads and processes of a test see them, and waiting for a lock works.
    return {alias: _sqlite(TEMPORARY_DIRECTORY / f"{alias}.sqlite3") for alias in ("default", "audit")}


def _sqlite(path: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {"timeout": 20, "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"},
        "TEST": {"NAME": path.with_name(f"test_{path.name}")},
    }


TEMPORARY_DIRECTORY = _temporary_directory()

SECRET_KEY = "a-key-for-tests-alone-that-is-long-enough-for-hs256"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES = _databases()
DATABASE_ROUTERS = ["otel_audit.routers.AuditRouter"]
OTEL_AUDIT = {"DATABASE": "audit"}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "rest_framework_simplejwt.token_blacklist",
    "otel_audit",
    "otel_audit.receiver",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "otel_audit.middleware.AuditMiddleware",
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
            ],
        },
    }
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework_simplejwt.authentication.JWTAuthentication",
        "rest_framework.authentication.TokenAuthentication",
    ],
}
