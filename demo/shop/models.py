"""What the shop sells."""

from django.db import models


class Product(models.Model):
    """One product of the catalogue."""

    sku = models.SlugField("article number", max_length=40, unique=True)
    name = models.CharField(max_length=120)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    stock = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["sku"]

    def __str__(self) -> str:
        return self.name
