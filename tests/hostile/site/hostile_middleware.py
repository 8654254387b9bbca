"""Middleware outside and inside of ours that fail when they are asked to."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.deprecation import MiddlewareMixin


class Failing(MiddlewareMixin):
    """Fails where the path names the place."""

    place = ""

    def process_request(self, request: Any) -> HttpResponseBase | None:
        """Fail or answer before the view."""
        if request.path == f"/fail/{self.place}/request/":
            raise RuntimeError(f"{self.place} middleware fails on the request")
        if request.path == f"/fail/{self.place}/unrendered/":
            return TemplateResponse(request, "nowhere.html")
        if request.path == f"/fail/{self.place}/bare/":
            return HttpResponseBase(status=204)
        if request.path == f"/fail/{self.place}/status/":
            response = HttpResponse("a status that is no number")
            response.status_code = "200"  # type: ignore[assignment]  # as a careless site has it
            return response
        return None

    def process_response(self, request: Any, response: Any) -> Any:
        """Fail after the view."""
        if request.path == f"/fail/{self.place}/response/":
            raise RuntimeError(f"{self.place} middleware fails on the response")
        return response


class Outer(Failing):
    """Stands outside of our entry, inside of our guard."""

    place = "outer"


class Inner(Failing):
    """Stands inside of our entry."""

    place = "inner"
