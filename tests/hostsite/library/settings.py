"""Settings of the library without an audit trail."""

import json
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

SECRET_KEY = "the-library-keeps-its-key-under-the-doormat-of-the-reading-room"
DEBUG = False
ALLOWED_HOSTS = ["library.example", "localhost", "testserver"]
USE_TZ = True
ROOT_URLCONF = "library.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "/static/"
MEDIA_URL = "/media/"

#: The databases that the library works with every day: a test has no business there.
REAL_DATABASES = json.loads(os.environ.get("LIBRARY_DATABASES", "{}"))
DATABASES = {
    "default": REAL_DATABASES.get("default")
    or {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / "library.sqlite3"},
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "library",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "library.middleware.OpeningHoursMiddleware",
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
