"""Configuration of the library's app."""

from django.apps import AppConfig


class LibraryConfig(AppConfig):
    """Books and who has them."""

    name = "library"
    default_auto_field = "django.db.models.BigAutoField"
