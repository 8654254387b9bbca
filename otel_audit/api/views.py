"""The sign-out view of ``drf-audit-trail`` at its old path, which here ends what it can.

A JWT that was issued cannot be taken back: an access token stays good until it expires. What stands in the way of new
ones is the blacklist, so the view puts the refresh token there that the client sends, where SimpleJWT's blacklist app
is installed; and it ends the session, if the client signed in by one. A DRF token is one for all clients and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.contrib.auth import logout

try:
    from rest_framework.authentication import SessionAuthentication
    from rest_framework.exceptions import APIException
    from rest_framework.response import Response
    from rest_framework.views import APIView
except ImportError as error:
    raise ImportError(
        "otel_audit.api.views needs Django REST framework; install it with: pip install 'otel-audit[drf]'."
    ) from error

from otel_audit.attributes import OUTCOME_SUCCESS
from otel_audit.integrations.attempts import metadata_only
from otel_audit.integrations.signin import LOGOUT, record

__all__ = ["LogoutAPIView", "logout_api_view"]


class LogoutAPIView(APIView):
    """Signs out: ``POST``, optionally with ``{"refresh": "<refresh token>"}``. Always answers 200."""

    def post(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Record the sign-out; blacklist the refresh token and end the session where there is one."""
        metadata_only(request)
        _revoke(_refresh_token(request))
        if isinstance(request.successful_authenticator, SessionAuthentication):
            logout(request)  # whose signal records it
        else:
            user = request.user if getattr(request.user, "is_authenticated", False) else None
            record(request, LOGOUT, OUTCOME_SUCCESS, user=user, method="view")
        return Response({"detail": "Successfully logged out."})


logout_api_view = LogoutAPIView.as_view()


def _refresh_token(request: Any) -> str | None:
    """Return the refresh token that the client sent; a body that cannot be read has none."""
    try:
        data = request.data
    except APIException:
        return None
    token = data.get("refresh") if isinstance(data, Mapping) else None
    return token if isinstance(token, str) else None


def _revoke(token: str | None) -> None:
    """Put a refresh token on the blacklist; one that is no longer good needs no revoking."""
    if token is None or not apps.is_installed("rest_framework_simplejwt.token_blacklist"):
        return
    from rest_framework_simplejwt.exceptions import TokenError
    from rest_framework_simplejwt.tokens import RefreshToken

    try:
        RefreshToken(token).blacklist()  # type: ignore[arg-type]  # SimpleJWT's annotation is wrong: it takes text
    except TokenError:
        return
