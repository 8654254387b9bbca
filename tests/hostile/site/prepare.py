"""Makes the people of the site, and prints the keys by which the tests know them as JSON."""

import json

import django

django.setup()

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402

ada = User.objects.create_superuser("ada", "ada@example.com", "correct horse")
bob = User.objects.create_user("bob", is_active=False)
gone = User.objects.create_user("gone")
deleted = gone.pk
gone.delete()
session = SessionStore()
session[SESSION_KEY] = str(ada.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = ada.get_session_auth_hash()
session.create()
print(json.dumps({"ada": ada.pk, "bob": bob.pk, "deleted": deleted, "session": session.session_key}))
