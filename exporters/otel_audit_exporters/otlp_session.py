"""The session of ``requests`` by which OpenTelemetry's exporter sends over HTTP, where the site names an authority."""

from __future__ import annotations

from typing import Any

__all__ = ["session_for"]


def session_for(certificate: str | None) -> Any:
    """Return a session that believes those whom the file ``certificate`` vouches for, and nobody else.

    That of ``requests`` prefers ``REQUESTS_CA_BUNDLE`` and ``CURL_CA_BUNDLE``, which are meant for what a process asks
    of others. None where there is no file: then OpenTelemetry makes its own.
    """
    if certificate is None:
        return None
    from requests import Session

    class Own(Session):
        def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
            merged = super().merge_environment_settings(url, proxies, stream, verify, cert)
            merged["verify"] = certificate
            return merged

    return Own()
