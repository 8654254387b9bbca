"""Configuration of the shop's app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The shop: products, their API and the processes around them."""

    name = "shop"
    verbose_name = "Shop"
    default_auto_field = "django.db.models.BigAutoField"
