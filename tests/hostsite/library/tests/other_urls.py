"""Addresses that one test replaces the site's with."""

from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("other/", lambda request: HttpResponse("other"))]
