"""The catalogue in the admin."""

from django.contrib import admin

from shop.models import Product


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Products by article number."""

    list_display = ["sku", "name", "price", "stock"]
    search_fields = ["sku", "name"]
