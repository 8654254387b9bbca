"""The shop's settings for what receives spans of other services into the same audit trail."""

from shop.settings import *  # noqa: F403
from shop.settings import INSTALLED_APPS as OF_THE_SHOP

INSTALLED_APPS = [*OF_THE_SHOP, "otel_audit.receiver"]
