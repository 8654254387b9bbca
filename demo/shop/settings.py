"""Settings of the demo shop: an ordinary DRF site, and five lines that give it an audit trail.

Everything it writes stands in one directory, ``demo/var`` or ``$SHOP_VAR``. With ``AUDIT_DATABASE_HOST``,
the audit trail goes to PostgreSQL instead of a second SQLite file.
"""

import os
import secrets
from datetime import timedelta
from pathlib import Path

VAR = Path(os.environ.get("SHOP_VAR") or Path(__file__).resolve().parent.parent / "var")
VAR.mkdir(mode=0o700, parents=True, exist_ok=True)


def secret(name: str) -> str:
    """Return what the file at ``$name_FILE`` holds, else the variable ``name``, else an empty text."""
    path = os.environ.get(f"{name}_FILE")
    return Path(path).read_text(encoding="utf-8").strip() if path else os.environ.get(name, "")


def secret_key() -> str:
    """Return the site's own key: from the environment, else made at the first start and kept in ``VAR``."""
    if given := secret("SHOP_SECRET_KEY"):
        return given
    path = VAR / "secret-key"
    if not path.exists():
        draft = path.with_name(f"secret-key.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48), encoding="utf-8")
        draft.rename(path)
    return path.read_text(encoding="utf-8")


def sqlite(name: str) -> dict[str, object]:
    """Return the settings of one SQLite database in ``VAR`` that several threads and processes can share."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR / name,
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }


def audit_database() -> dict[str, object]:
    """Return PostgreSQL when ``AUDIT_DATABASE_HOST`` names a server, else the second SQLite file."""
    host = os.environ.get("AUDIT_DATABASE_HOST")
    if not host:
        return sqlite("audit.sqlite3")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": host,
        "PORT": os.environ.get("AUDIT_DATABASE_PORT", "5432"),
        "NAME": os.environ.get("AUDIT_DATABASE_NAME", "audit"),
        "USER": os.environ.get("AUDIT_DATABASE_USER", "audit"),
        "PASSWORD": secret("AUDIT_DATABASE_PASSWORD"),
    }


SECRET_KEY = secret_key()
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework_simplejwt",
    "rest_framework_simplejwt.token_blacklist",
    "shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

DATABASES = {"default": sqlite("shop.sqlite3")}

# ── the audit trail ─────────────────────────────────────────────────────────────────────────────
INSTALLED_APPS += ["otel_audit"]
MIDDLEWARE += ["otel_audit.middleware.AuditMiddleware"]
DATABASES["audit"] = audit_database()
DATABASE_ROUTERS = ["otel_audit.routers.AuditRouter"]
OTEL_AUDIT = {
    "DATABASE": "audit",
    "SERVICE_NAME": os.environ.get("OTEL_SERVICE_NAME", "shop"),
    "SPOOL_DIR": os.environ.get("OTEL_AUDIT_SPOOL_DIR") or VAR / "spool",
    "POLICY": [{"path": r"/api/health/$", "level": "none"}],
    "TRACE_URL": os.environ.get("SHOP_TRACE_URL"),
}
# ────────────────────────────────────────────────────────────────────────────────────────────────

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
ASGI_APPLICATION = "shop.asgi.application"
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
    },
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework_simplejwt.authentication.JWTAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticatedOrReadOnly"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 10,
}
SIMPLE_JWT = {"ACCESS_TOKEN_LIFETIME": timedelta(minutes=5), "REFRESH_TOKEN_LIFETIME": timedelta(hours=12)}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
