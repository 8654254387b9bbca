"""What OpenTelemetry's own configuration does to the audit trail: samplers, propagators, packages."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision

from otel_audit.attributes import AUDIT_KIND, KIND_PROCESS
from otel_audit.checks.registry import Finding, check
from otel_audit.conf import conf
from otel_audit.edges import edge
from otel_audit.forwarding import option, problems, tls_files
from otel_audit.options import shown

__all__: list[str] = []

#: The SDK's samplers that drop spans; those with a ratio do below 1.
_DROPPING: Final = ("always_off", "parentbased_always_off", "traceidratio", "parentbased_traceidratio")
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
#: Protocol → the package that speaks it, and the extra that installs it.
_PACKAGES: Final = {
    "http/protobuf": ("opentelemetry.exporter.otlp.proto.http", "otlp"),
    "grpc": ("opentelemetry.exporter.otlp.proto.grpc", "otlp-grpc"),
}
_ASGI_SERVERS: Final = ("daphne", "granian", "hypercorn", "uvicorn")
_HIDDEN: Final = "process and step spans of plain OpenTelemetry code"


@check("W020")
def sdk_disabled() -> Iterator[Finding]:
    """The SDK is not switched off."""
    if _variable("OTEL_SDK_DISABLED").lower() == "true":
        yield (
            f"OTEL_SDK_DISABLED is true: {_HIDDEN} are not recorded. Requests, sign-ins and processes by otel_audit's "
            "own functions are.",
            "Unset OTEL_SDK_DISABLED; to send nothing elsewhere, set OTEL_TRACES_EXPORTER=none instead.",
        )


@check("W021")
def environment_sampler() -> Iterator[Finding]:
    """``OTEL_TRACES_SAMPLER`` drops nothing."""
    name = _variable("OTEL_TRACES_SAMPLER").lower()
    if name not in _DROPPING or (name.endswith("ratio") and _ratio() >= 1):
        return
    yield (
        f"OTEL_TRACES_SAMPLER is {name}: {_HIDDEN} are dropped by it until otel_audit has put its own sampler in "
        "front, with the first request or the first use of its functions; in a plain script always.",
        "Set OTEL_TRACES_SAMPLER=otel_audit, with OTEL_TRACES_SAMPLER_ARG as the ratio to forward.",
    )


@check("W022")
def provider_sampler() -> Iterator[Finding]:
    """The tracer provider that the site has set is the SDK's and drops no audit span."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        return
    if not isinstance(provider, TracerProvider):
        yield (
            f"The tracer provider is a {type(provider).__name__}, not the OpenTelemetry SDK's: {_HIDDEN} are not "
            "recorded.",
            "Set an opentelemetry.sdk.trace.TracerProvider, or record processes by otel_audit.process().",
        )
    elif _drops(provider.sampler):
        yield (
            f"The tracer provider's sampler, {provider.sampler.get_description()}, drops {_HIDDEN} until otel_audit "
            "has put its own in front, with the first request or the first use of its functions.",
            f"Write TracerProvider(sampler=otel_audit_exporters.AuditSampler({type(provider.sampler).__name__}(…))).",
        )


@check("W023")
def propagators() -> Iterator[Finding]:
    """OpenTelemetry has a propagator; without one its Django middleware fails."""
    names = [name.strip().lower() for name in _variable("OTEL_PROPAGATORS").split(",")]
    if "none" in names or propagate.extract({}) is None:
        yield (
            "OpenTelemetry has no propagator (OTEL_PROPAGATORS=none): its Django middleware answers every request with "
            "500, which is a fault of its own.",
            "Set OTEL_PROPAGATORS=tracecontext,baggage, or unset it.",
        )


@check("W024")
def configuration_file() -> Iterator[Finding]:
    """A declarative configuration names a propagator."""
    path = _variable("OTEL_CONFIG_FILE")
    if not path:
        return
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError) as error:
        yield f"OTEL_CONFIG_FILE cannot be read: {error}.", "Set OTEL_CONFIG_FILE to the path of a readable file."
        return
    if not re.search(r"^\s*[\"']?propagator[\"']?\s*:", text, re.MULTILINE):
        yield (
            f"OTEL_CONFIG_FILE={path} has no propagator: OpenTelemetry's Django middleware answers every request with "
            "500, which is a fault of its own.",
            "Add to it: propagator: {composite: [{tracecontext: }, {baggage: }]}",
        )


@check("W025")
def asgi_package() -> Iterator[Finding]:
    """Under ASGI, OpenTelemetry's Django middleware has the package that it needs."""
    from otel_audit.middleware import OTEL_PATH

    is_asgi = (
        bool(getattr(settings, "ASGI_APPLICATION", None))
        or "daphne" in settings.INSTALLED_APPS
        or any(server in sys.modules for server in _ASGI_SERVERS)
    )
    if is_asgi and OTEL_PATH in settings.MIDDLEWARE and not _is_installed("opentelemetry.instrumentation.asgi"):
        yield (
            "Under ASGI, OpenTelemetry's Django middleware emits no span without the package "
            "opentelemetry-instrumentation-asgi.",
            'Run pip install "otel-audit[asgi]".',
        )


@check("W026")
def otlp_package() -> Iterator[Finding]:
    """The package for the protocol of forwarding is installed."""
    configured = conf.otlp
    if not _forwards():
        return
    protocol = (configured or {}).get("protocol") or next(filter(None, map(_variable, _PROTOCOLS)), "http/protobuf")
    if protocol not in _PACKAGES:
        yield (
            f"The protocol of OTLP forwarding is {shown(protocol)}, which is not spoken here: nothing is forwarded.",
            'Write OTEL_AUDIT["OTLP"] = {"protocol": "http/protobuf", …}, or "grpc".',
        )
        return
    package, extra = _PACKAGES[protocol]
    if not _is_installed(package):
        yield (
            f"Forwarding by OTLP ({protocol}) is configured, but its package is not installed: nothing is forwarded.",
            f'Run pip install "otel-audit[{extra}]".',
        )


@check("W027")
def durable_forwarding() -> Iterator[Finding]:
    """Forwarding that waits for the collector has the spool to wait in."""
    if (conf.otlp or {}).get("durable") is True and conf.delivery == "sync":
        yield (
            'OTEL_AUDIT["OTLP"]["durable"] is True, but DELIVERY is "sync": without a spool, spans are forwarded as '
            "best effort.",
            'Remove OTEL_AUDIT["DELIVERY"], or write "durable": False.',
        )


@check("W028")
def full_level() -> Iterator[Finding]:
    """The level ``full`` is given to a collector from the spool, as no span has what travels beside it."""
    configured = conf.otlp or {}
    if configured.get("level") == "full" and configured.get("durable") is not True:
        yield (
            'OTEL_AUDIT["OTLP"]["level"] is "full" without "durable": the collector gets no more than at "audit".',
            'Write "durable": True, or "level": "audit".',
        )


@check("W029")
def exporters_redact() -> Iterator[Finding]:
    """The exporters that the site has set up itself mask secrets."""
    from otel_audit_exporters import DatabaseSpanExporter, RedactingSpanExporter

    provider = trace.get_tracer_provider()
    processors = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    for processor in processors:
        chain = list(_chain(getattr(processor, "span_exporter", None)))
        if chain and not any(isinstance(one, RedactingSpanExporter | DatabaseSpanExporter) for one in chain):
            name = type(chain[0]).__name__
            yield (
                f"The span exporter {name} sends what spans hold as it is: query strings, error messages and stack "
                "traces with the secrets in them.",
                f"Write RedactingSpanExporter({name}(…)), of otel_audit_exporters. Or leave forwarding to otel_audit: "
                "set OTEL_TRACES_EXPORTER=none and OTEL_EXPORTER_OTLP_ENDPOINT.",
            )


@check("E052")
def forwarding_files() -> Iterator[Finding]:
    """Files of TLS and compression, of ``OTLP`` and of the standard variables, can be used."""
    if _forwards():
        yield from problems()


@check("W032")
def forwarding_in_clear() -> Iterator[Finding]:
    """Where files of TLS are named, the collector is spoken to by TLS."""
    if _forwards() and tls_files() and str(option("endpoint")[1] or "").lower().startswith("http://"):
        yield (
            f"{option('endpoint')[0]} begins with http://: spans and headers go out in clear, and the files of TLS "
            "have no effect.",
            "Write https:// there, or remove certificate, client_certificate and client_key.",
        )


def _forwards() -> bool:
    return conf.otlp is not None or any(_variable(name) for name in _ENDPOINTS)


def _chain(exporter: Any) -> Iterator[Any]:
    """Yield an exporter and those that it wraps, as far as they can be seen."""
    seen: set[int] = set()
    while exporter is not None and id(exporter) not in seen:
        seen.add(id(exporter))
        yield exporter
        exporter = getattr(exporter, "inner", None)


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _ratio() -> float:
    """Return the ratio as the SDK reads it: 1 where it is absent or no number."""
    try:
        return float(_variable("OTEL_TRACES_SAMPLER_ARG"))
    except ValueError:
        return 1.0


def _drops(sampler: Any) -> bool:
    """Ask ``sampler`` about a process in the trace that a ratio drops first: the one with the highest id."""
    with edge("checks.provider_sampler"):
        result = sampler.should_sample(None, 2**128 - 1, "otel_audit.check", attributes={AUDIT_KIND: KIND_PROCESS})
        return result.decision is Decision.DROP
    return False


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is not there
        return False
