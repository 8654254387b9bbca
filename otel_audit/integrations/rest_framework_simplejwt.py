"""The SimpleJWT view and mixin of ``drf-audit-trail`` at their old path.

Nothing needs them: SimpleJWT's own views are recorded as they are. A site that has them in its URLs keeps them.
"""

from __future__ import annotations

from typing import Any

try:
    from rest_framework_simplejwt.views import TokenObtainPairView, TokenViewBase
except ImportError as error:
    raise ImportError(
        "otel_audit.integrations.rest_framework_simplejwt needs SimpleJWT; "
        "install it with: pip install 'otel-audit[jwt]'."
    ) from error

from otel_audit.integrations.attempts import served
from otel_audit.integrations.rest_framework import signed_in
from otel_audit.integrations.simplejwt import METHOD

__all__ = ["DRFAuditTrailIntegrationMixin", "DRFAuditTrailTokenObtainPairView"]


class DRFAuditTrailIntegrationMixin:
    """Makes any generic view a token view whose sign-ins are recorded.

    The view's serializer gives the tokens as its ``validated_data`` and the user as ``user``.
    """

    post = TokenViewBase.post

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Serve the request, and record how it ended."""
        return _served(_dispatch, self, request, *args, **kwargs)


class DRFAuditTrailTokenObtainPairView(DRFAuditTrailIntegrationMixin, TokenObtainPairView):
    """SimpleJWT's ``TokenObtainPairView``."""


def _dispatch(view: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
    return super(DRFAuditTrailIntegrationMixin, view).dispatch(request, *args, **kwargs)


_served = served(METHOD, signed_in)
