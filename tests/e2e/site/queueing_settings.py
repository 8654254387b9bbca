"""The settings of a site that queues tasks, and of their worker: the broker is a folder, ``E2E_QUEUE``."""

import os

from receiving_settings import *  # noqa: F403

ROOT_URLCONF = "queueing_urls"
INSTALLED_APPS = [*INSTALLED_APPS, "shop"]  # noqa: F405
CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": os.environ["E2E_QUEUE"],
    "data_folder_out": os.environ["E2E_QUEUE"],
    "control_folder": os.environ["E2E_QUEUE"] + "-control",
}
