"""Users who are known by their mail address and a key that is a text."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models


class PersonManager(BaseUserManager["Person"]):
    """Makes people."""


class Person(AbstractBaseUser):
    """Somebody without a username."""

    code = models.CharField(max_length=20, primary_key=True)
    mail = models.EmailField(unique=True)
    is_active = models.BooleanField(default=True)

    objects: ClassVar[PersonManager] = PersonManager()

    USERNAME_FIELD = "mail"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
