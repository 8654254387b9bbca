"""``manage.py takestock``: two processes, one in each way of writing them."""

from django.core.management.base import BaseCommand

from backoffice.stocktaking import take_stock, take_stock_in_plain_opentelemetry


class Command(BaseCommand):
    """Takes stock of the shop and of its storehouse."""

    help = "Take stock."

    def handle(self, *args, **options):
        """Take stock."""
        take_stock("Stock of the shop")
        take_stock_in_plain_opentelemetry("Stock of the storehouse")
