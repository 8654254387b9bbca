"""Signs somebody in and out in every way and prints what was recorded, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import django
from django.conf import settings

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(ROOT)]

settings.configure(
    SECRET_KEY="a-key-for-tests-alone-that-is-long-enough-for-hs256",
    ROOT_URLCONF="tests.integrations.custom_user.urls",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "custom_user",
        "otel_audit",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "otel_audit.middleware.AuditMiddleware",
    ],
    AUTH_USER_MODEL="custom_user.Person",
    SIMPLE_JWT={"USER_ID_FIELD": "code", "USER_ID_CLAIM": "sub"},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.test.client import Client  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402

from otel_audit.testing import capture  # noqa: E402

NAME, PASSWORD = "ada@example.com", "correct horse"


def main() -> None:
    """Send the requests."""
    from custom_user.models import Person

    setup_test_environment()
    call_command("migrate", run_syncdb=True, verbosity=0)
    person = Person(code="ada-1", mail=NAME)
    person.set_password(PASSWORD)
    person.save()
    browser = Client()
    with capture() as records:
        for password in (PASSWORD, "guess"):
            browser.post("/login/", {"username": NAME, "password": password})
        tokens = Client().post("/token/", {"mail": NAME, "password": PASSWORD}).json()
        Client().post("/token/", {"mail": NAME, "password": "guess"})
        Person.objects.update(is_active=False)
        Client().post("/token/", {"mail": NAME, "password": PASSWORD})
        Person.objects.update(is_active=True)
        Client().post("/token/refresh/", {"refresh": tokens["refresh"]})
        Client().post("/token/blacklist/", {"refresh": tokens["refresh"]})
        browser.post("/logout/")
        names = ("status", "action", "user", "username", "method", "extra_informations", "session_id")
        rows = [[getattr(row, name) for name in names] for row in records.logins]
    sys.stdout.write(json.dumps(rows))


main()
