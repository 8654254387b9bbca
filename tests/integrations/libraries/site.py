"""A small site with one library that signs people in: sends the library's own requests, prints what was recorded.

Usage: ``site.py LIBRARY``. A process each, as most of them replace the site's authentication.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT)]

library = importlib.import_module(f"site_{sys.argv[1]}")

settings.configure(
    **{
        "SECRET_KEY": "a-key-for-tests-alone-that-is-long-enough-for-hs256",
        "ALLOWED_HOSTS": ["testserver"],
        "ROOT_URLCONF": "__main__",
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "INSTALLED_APPS": [
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            *library.APPS,
            "otel_audit",
        ],
        "MIDDLEWARE": [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            *library.MIDDLEWARE,
            "otel_audit.middleware.AuditMiddleware",
        ],
        "TEMPLATES": [
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
        ],
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
        "LOGIN_REDIRECT_URL": "/hello/",
        "LOGOUT_REDIRECT_URL": "/hello/",
        "USE_TZ": True,
        **library.SETTINGS,
    }
)
django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test.client import Client  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402
from django.urls import include, path  # noqa: E402
from hello import hello  # noqa: E402

from otel_audit.testing import capture  # noqa: E402

urlpatterns = [path(prefix, include(urls)) for prefix, urls in library.URLS]
urlpatterns += [path("hello/", hello), path("admin/", admin.site.urls)]


def extra(row: Any) -> Any:
    """Return what a row says beside its columns, the session's fingerprint among it."""
    session = {"session.id": row.session_id} if row.session_id else {}
    return {**(row.extra_informations or {}), **session} or None


def main() -> None:
    """Send the requests."""
    setup_test_environment()
    call_command("migrate", run_syncdb=True, verbosity=0)
    User.objects.create_superuser("root", "root@example.com", "correct horse")
    User.objects.create_user("ada", "ada@example.com", "battery staple")
    client = Client()
    with capture() as records:
        statuses = library.visit(client)
        found = {
            "statuses": statuses,
            "logins": [
                [row.status, row.action, row.outcome, row.user, row.username, row.method, row.reason, row.actor_name]
                for row in records.logins
            ],
            "login_extras": [extra(row) for row in records.logins],
            "requests": [[row.url, row.user, row.actor_name, extra(row)] for row in records.requests],
        }
    sys.stdout.write(json.dumps(found))


main()
