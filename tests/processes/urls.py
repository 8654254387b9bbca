"""Views that run the process."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .documented import create_product
from .ways import WAYS


def run(request: HttpRequest, way: str, count: int, fails: int) -> HttpResponse:
    """Run it once."""
    WAYS[way](request, count, bool(fails))
    return HttpResponse("done")


async def arun(request: HttpRequest, way: str, count: int, fails: int) -> HttpResponse:
    """Run it once, in an event loop."""
    WAYS[way](request, count, bool(fails))
    return HttpResponse("done")


def twice(request: HttpRequest, way: str) -> HttpResponse:
    """Run it twice in one request."""
    WAYS[way](request, 1, False)
    WAYS[way](request, 1, False)
    return HttpResponse("done")


class Documented(APIView):
    """Run the ancestor's documented example."""

    authentication_classes = []

    def post(self, request: Request) -> Response:
        """Run it."""
        return Response({"id": create_product(request)})


urlpatterns = [
    path("run/<str:way>/<int:count>/<int:fails>/", run),
    path("arun/<str:way>/<int:count>/<int:fails>/", arun),
    path("twice/<str:way>/", twice),
    path("documented/", Documented.as_view()),
]
