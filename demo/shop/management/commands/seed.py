"""``manage.py seed``: fills the shop with products and its two people."""

from typing import Any

from django.contrib.auth.models import Permission, User
from django.core.management.base import BaseCommand, CommandError

from shop.models import Product
from shop.settings import secret

PRODUCTS = [
    ("espresso-machine", "Espresso machine", "249.00", 12),
    ("hand-grinder", "Hand grinder", "89.90", 30),
    ("pour-over-set", "Pour-over set", "45.50", 25),
    ("kettle", "Gooseneck kettle", "64.00", 18),
    ("scale", "Pocket scale", "29.95", 40),
    ("beans-yirgacheffe", "Beans, Yirgacheffe, 500 g", "17.80", 120),
]


class Command(BaseCommand):
    """Makes the products, the customer *anna* and the *auditor*; what exists already is kept."""

    help = "Fill the shop with products, 'anna' and the 'auditor'. Their password is $SHOP_PASSWORD."

    def handle(self, *args: Any, **options: Any) -> None:
        """Fill the shop."""
        password = secret("SHOP_PASSWORD")
        if not password:
            raise CommandError("SHOP_PASSWORD is not set: write SHOP_PASSWORD=… in front of the command.")
        for sku, name, price, stock in PRODUCTS:
            Product.objects.get_or_create(sku=sku, defaults={"name": name, "price": price, "stock": stock})
        _person("anna", password)
        auditor = _person("auditor", password, is_staff=True)
        may_read = Permission.objects.filter(content_type__app_label="otel_audit", codename__startswith="view_")
        auditor.user_permissions.set(may_read)
        self.stdout.write(f"The shop has {Product.objects.count()} products and the people 'anna' and 'auditor'.")


def _person(username: str, password: str, *, is_staff: bool = False) -> User:
    # A new person's first password is no change of one: the trail does not begin with two of them.
    user = User.objects.filter(username=username).first() or User(username=username, is_staff=is_staff)
    user.set_password(password)
    user.save()
    return user
