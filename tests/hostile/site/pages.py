"""Prints every page of the trail in the admin: lists and rows."""

import django

django.setup()

from django.apps import apps  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402

client = Client(headers={"host": "127.0.0.1"})
client.force_login(User.objects.get(username="ada"))
for model in apps.get_app_config("otel_audit").get_models():
    name = f"admin:otel_audit_{model._meta.model_name}"
    for address in (
        reverse(f"{name}_changelist"),
        *(reverse(f"{name}_change", args=[row.pk]) for row in model.objects.all()),
    ):
        answer = client.get(address)
        assert answer.status_code == 200, (address, answer)
        print(address)
        print(answer.content.decode())
