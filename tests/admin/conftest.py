"""People who come to the admin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

VIEWS = tuple(f"view_{name}auditevent" for name in ("request", "login", "process", "step", "registration"))

SignIn = Callable[..., Client]


@pytest.fixture
def sign_in(db: Any, django_user_model: Any) -> SignIn:
    """Return a function that makes a user and gives a client that is signed in as them."""

    def make(*, staff: bool = True, superuser: bool = False, permissions: Sequence[str] = ()) -> Client:
        user = django_user_model.objects.create_user(
            f"user-{django_user_model.objects.count()}", password="x", is_staff=staff, is_superuser=superuser
        )
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def superuser(sign_in: SignIn) -> Client:
    """Return a client of a superuser."""
    return sign_in(superuser=True)


@pytest.fixture
def auditor(sign_in: SignIn) -> Client:
    """Return a client of a member of staff who may view all five models."""
    return sign_in(permissions=VIEWS)
