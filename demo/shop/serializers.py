"""How products travel as JSON."""

from rest_framework import serializers

from shop.models import Product


class ProductSerializer(serializers.ModelSerializer):
    """One product; that its price makes sense is checked by the process that creates it."""

    class Meta:
        model = Product
        fields = ["id", "sku", "name", "price", "stock"]


class OrderSerializer(serializers.Serializer):
    """What a customer wants to buy."""

    sku = serializers.SlugField()
    quantity = serializers.IntegerField(min_value=1, default=1)
