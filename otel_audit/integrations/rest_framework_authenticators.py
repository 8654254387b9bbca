"""The token view of ``drf-audit-trail`` at its old path.

Nothing needs it: REST framework's own ``ObtainAuthToken`` is recorded as it is.
"""

from __future__ import annotations

try:
    from rest_framework.authtoken.views import ObtainAuthToken
except ImportError as error:
    raise ImportError(
        "otel_audit.integrations.rest_framework_authenticators needs Django REST framework; "
        "install it with: pip install 'otel-audit[drf]'."
    ) from error

__all__ = ["DRFAuditTrailTokenAuthentication"]


class DRFAuditTrailTokenAuthentication(ObtainAuthToken):
    """REST framework's ``ObtainAuthToken``."""
