"""The sign-in endpoints of the site."""

from __future__ import annotations

from django.contrib.auth import login, logout
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework_simplejwt.views import token_blacklist, token_obtain_pair, token_refresh


def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in by the form."""
    form = AuthenticationForm(request, data=request.POST)
    if form.is_valid():
        login(request, form.get_user())
    return HttpResponse()


def sign_out(request: HttpRequest) -> HttpResponse:
    """Sign out."""
    logout(request)
    return HttpResponse()


urlpatterns = [
    path("login/", sign_in),
    path("logout/", sign_out),
    path("token/", token_obtain_pair),
    path("token/refresh/", token_refresh),
    path("token/blacklist/", token_blacklist),
]
