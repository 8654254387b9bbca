"""The page that every site has."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse


def hello(request: HttpRequest) -> HttpResponse:
    """Answer whoever asks, without asking who it is."""
    return HttpResponse("hello")
