"""A plain script, as cron runs it: ``python night_shift.py plain | fork | spawn``."""

import os
import sys

import django

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "e2e_settings")
    django.setup()

    from backoffice.stocktaking import take_stock, take_stock_in_children

    from otel_audit import flush

    if sys.argv[1] == "plain":
        take_stock("Night shift")
        print("left", flush(10))
    elif sys.argv[1] == "os._exit":
        take_stock("Night shift")
        os._exit(0)
    else:
        take_stock_in_children(sys.argv[1], ["Night shift", "Night shift 1", "Night shift 2"])
