"""URLs of pages with and without a secret in their path."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path


def page(request: HttpRequest, **parameters: Any) -> HttpResponse:
    """Answer."""
    return HttpResponse()


urlpatterns = [path("invitation/<token>/", page), path("items/<int:pk>/", page)]
