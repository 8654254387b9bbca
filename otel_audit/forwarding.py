"""How forwarding by OTLP is secured: the files of TLS, compression, and what of its headers may be said (nothing).

``OTEL_AUDIT["OTLP"]`` counts key by key, the standard ``OTEL_EXPORTER_OTLP_*`` variables where it has no such key. The
files are tried before anything is sent with them: OpenTelemetry's exporters say of a wrong one no more than that the
collector does not answer, and over gRPC go on without it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import fspath
from typing import Any, Final
from urllib.parse import unquote

from otel_audit.conf import conf
from otel_audit.options import COMPRESSIONS, shown
from otel_audit.redaction.marks import MASK

__all__ = ["TlsFiles", "compression", "first_problem", "option", "problems", "tls_files", "without_credentials"]

_GENERAL, _TRACES = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"
#: Of a value that is shorter than this, every second text has a part that is equal.
_MIN_CREDENTIAL: Final = 4


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files: whom we believe to be the collector, and by what it knows us; None where nothing is said."""

    certificate: str | None
    client_certificate: str | None
    client_key: str | None

    def __bool__(self) -> bool:
        """Whether any is set."""
        return any((self.certificate, self.client_certificate, self.client_key))


def option(key: str) -> tuple[str, Any]:
    """Return the name of the setting or variable that counts for ``key`` of ``OTLP``, and its value; None if none."""
    configured = conf.otlp or {}
    if configured.get(key) is not None:
        return f'OTEL_AUDIT["OTLP"]["{key}"]', configured[key]
    for prefix in (_TRACES, _GENERAL):
        name = prefix + key.upper()
        if value := os.environ.get(name, "").strip():
            return name, value
    return f'OTEL_AUDIT["OTLP"]["{key}"]', None


def tls_files() -> TlsFiles:
    """Return the files that are configured, whether they can be used or not."""
    found = [option(key)[1] for key in ("certificate", "client_certificate", "client_key")]
    return TlsFiles(*(None if path is None else fspath(path) for path in found))


def compression() -> str:
    """Return ``"gzip"``, ``"none"``, or what else the standard variables say."""
    return str(option("compression")[1] or COMPRESSIONS[-1]).lower()


def first_problem() -> str | None:
    """Return the first of `problems` as one text; None where there is none."""
    return next((f"{said} {hint}" for said, hint in problems()), None)


def problems() -> Iterator[tuple[str, str]]:
    """Yield what is wrong with files and compression, each with what to write."""
    files = tls_files()
    name, said = option("compression")
    if said is not None and compression() not in COMPRESSIONS:
        yield f"{name} is {shown(said)}: that is not spoken here.", "Set it to 'gzip' or 'none'."
    if files.client_key and not files.client_certificate:
        yield (
            f"{option('client_key')[0]} is set without a client certificate: the collector is shown neither.",
            'Set OTEL_AUDIT["OTLP"]["client_certificate"] to the path of the certificate that the key belongs to.',
        )
    for key in ("certificate", "client_certificate"):
        name, path = option(key)
        if path is not None and (problem := _problem(key, files)) is not None:
            yield f"{name} cannot be used: {problem}.", _HINTS[key]


def without_credentials(text: str) -> str:
    """Return ``text``, which a collector or a library may have written, without the headers that it is sent."""
    for value in sorted(_header_values(), key=len, reverse=True):
        text = text.replace(value, MASK)
    return conf.redactor.text(text)


_HINTS: Final = {
    "certificate": "Set it to the path of a readable PEM file with the authority's certificate.",
    "client_certificate": "Set it to the path of a readable PEM file, and client_key to that of its key, which has no "
    "passphrase.",
}


def _problem(key: str, files: TlsFiles) -> str | None:
    """Try a file as OpenSSL does; a missing one, one that is no PEM, and a key of another certificate fail here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if key == "certificate":
            context.load_verify_locations(files.certificate)
        else:
            # Without a password OpenSSL asks for one on the terminal.
            context.load_cert_chain(files.client_certificate or "", files.client_key, password="")
    except (OSError, ValueError) as error:
        return _reason(error)
    return None


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"it, or its key, is no PEM, or they do not belong together ({error.reason or 'unknown format'})"
    if isinstance(error, OSError) and error.strerror:
        return f"it, or its key, cannot be read ({error.strerror})"
    return "it is no path"


def _header_values() -> Iterator[str]:
    """Yield what stands in headers, of the setting and of the variables: over HTTP they are sent together."""
    configured = (conf.otlp or {}).get("headers")
    values = list(configured.values()) if isinstance(configured, Mapping) else []
    for prefix in (_TRACES, _GENERAL):
        items = os.environ.get(f"{prefix}HEADERS", "").split(",")
        values += [unquote(item.partition("=")[2]).strip() for item in items]
    for value in values:
        # The scheme, such as Bearer, is no secret; what follows it is one by itself.
        yield from (part for part in {value, value.rpartition(" ")[2]} if len(part) >= _MIN_CREDENTIAL)
