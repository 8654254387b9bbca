"""Forwarding by TLS to a collector that wants a certificate, by both protocols, and the headers that nobody may see."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from django.core import checks
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_audit.forwarding import without_credentials
from otel_audit_exporters.otlp import bare_exporter, collector_exporter
from otel_audit_exporters.otlp_sink import CollectorAwayError, CollectorSink
from tests.e2e.authority import Authority, Pair
from tests.e2e.otlp_server import Answer, Collector, grpc_collector, http_collector
from tests.exporters.spooling import make_process

COLLECTORS = {"http/protobuf": http_collector, "grpc": grpc_collector}
SECRET = "s3cr3t-of-the-collector"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_EXPORTER_OTLP") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that vouches for the collector, and that the collector believes."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody knows."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    """What we show the collector."""
    return authority.issue("shop")


@pytest.fixture(params=COLLECTORS)
def protocol(request: pytest.FixtureRequest) -> str:
    """Both protocols."""
    return str(request.param)


@pytest.fixture
def collector(protocol: str, authority: Authority) -> Iterator[Collector]:
    """A collector that wants a certificate."""
    collect: Callable[[Authority], AbstractContextManager[Collector]] = COLLECTORS[protocol]
    with collect(authority) as running:
        yield running


@pytest.fixture
def files(authority: Authority, own: Pair) -> dict[str, Any]:
    """The settings with which it works."""
    return {"certificate": authority.certificate, "client_certificate": own.certificate, "client_key": own.key}


@pytest.fixture
def sink(settings: Any, protocol: str, collector: Collector) -> Iterator[Callable[..., CollectorSink]]:
    """Return a function that makes a sink with the settings that it is given."""
    made: list[CollectorSink] = []

    def make(**options: Any) -> CollectorSink:
        basis = {"endpoint": collector.endpoint, "protocol": protocol, "durable": True, "timeout": 5}
        settings.OTEL_AUDIT = {"DATABASE": "audit", "OTLP": basis | options}
        made.append(CollectorSink())
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., CollectorSink]


def test_spans_go_to_a_collector_that_wants_a_certificate(sink: Make, files: Any, collector: Collector) -> None:
    outcome = sink(**files, compression="gzip")([make_process("Ship")])

    assert (outcome.stored, outcome.rejections) == (1, [])
    assert [span.name for span in collector.spans()] == ["Ship"]


def test_the_standard_variables_count_where_the_setting_says_nothing(
    sink: Make, files: dict[str, Path], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for (key, path), prefix in zip(files.items(), ("", "TRACES_", ""), strict=True):
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{prefix}{key.upper()}", str(path))

    assert sink()([make_process("Ship")]).stored == 1
    assert len(collector.spans()) == 1


def test_a_certificate_with_its_key_in_the_same_file_needs_no_other(
    sink: Make, files: Any, own: Pair, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(own.key.read_bytes() + own.certificate.read_bytes())

    outcome = sink(**(files | {"client_certificate": both, "client_key": None}))([make_process("Ship")])

    assert outcome.stored == 1


def test_best_effort_forwarding_uses_the_files_too(sink: Make, files: Any, collector: Collector) -> None:
    sink(**files, durable=False)
    exporter: Any = collector_exporter()
    span: Any = TracerProvider(shutdown_on_exit=False).get_tracer("shop").start_span("Ship")
    span.end()

    result = exporter.export([span])

    exporter.shutdown()
    assert result is SpanExportResult.SUCCESS
    assert [span.name for span in collector.spans()] == ["Ship"]


def test_without_a_certificate_nothing_is_taken_and_the_spans_wait(
    sink: Make, files: Any, collector: Collector
) -> None:
    with pytest.raises(CollectorAwayError):
        sink(certificate=files["certificate"])([make_process("Ship")])

    assert collector.asked == 0


@pytest.mark.parametrize("bundled", [False, True])
def test_a_collector_whom_the_named_authority_does_not_know_gets_nothing(
    sink: Make,
    files: Any,
    authority: Authority,
    stranger: Authority,
    collector: Collector,
    bundled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if bundled:  # what the process believes elsewhere is not what it believes here
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))

    with pytest.raises(CollectorAwayError):
        sink(**(files | {"certificate": stranger.certificate}))([make_process("Ship")])

    assert collector.asked == 0


def test_what_a_file_of_the_environment_vouches_for_does_not_count_beside_the_named_authority(
    sink: Make, files: Any, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stranger.certificate))

    assert sink(**files)([make_process("Ship")]).stored == 1


def test_a_file_that_is_missing_is_named_and_tried_again(
    sink: Make, files: Any, collector: Collector, tmp_path: Path
) -> None:
    later = tmp_path / "later.key"
    made = sink(**(files | {"client_key": later}))
    with pytest.raises(CollectorAwayError, match="cannot be read"):
        made([make_process("Ship")])
    later.write_bytes(files["client_key"].read_bytes())

    assert made([make_process("Ship")]).stored == 1
    assert len(collector.spans()) == 1


# ── compression and headers ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("written", "variable"), [("gzip", None), (None, "GZIP"), ("none", "gzip"), (None, "none")])
def test_compression_is_what_the_setting_says_else_the_variable(
    sink: Make, files: Any, protocol: str, written: str | None, variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", variable)
    sink(**files, compression=written)

    _, exporter = bare_exporter()

    exporter.shutdown()
    compressed = (written or str(variable)).lower() == "gzip"
    if protocol == "grpc":
        assert (exporter._compression is grpc.Compression.Gzip) is compressed
    else:
        assert ("Content-Encoding" in exporter._client._headers) is compressed


def test_gzip_is_said_over_http(settings: Any) -> None:
    with http_collector() as collector:
        settings.OTEL_AUDIT = {"DATABASE": "audit", "OTLP": {"endpoint": collector.endpoint, "compression": "gzip"}}
        made = CollectorSink()

        outcome = made([make_process("Ship")])

        made.close()
    assert (outcome.stored, collector.headers["content-encoding"]) == (1, "gzip")


def test_headers_reach_the_collector_however_they_are_written(sink: Make, files: Any, collector: Collector) -> None:
    sink(**files, headers={"Authorization": f"Bearer {SECRET}", "X-Scope": "audit"})([make_process("Ship")])

    assert (collector.headers["authorization"], collector.headers["x-scope"]) == (f"Bearer {SECRET}", "audit")


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_collector_that_repeats_a_header_does_not_bring_it_into_the_reason(
    sink: Make, files: Any, collector: Collector, by_variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"the key {SECRET} is not known".encode()
    collector.answer = lambda _request: Answer(
        401, said, {"Content-Type": "text/plain"}, code=grpc.StatusCode.UNAUTHENTICATED, keeps=False
    )
    if by_variable:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-key={SECRET}")
    made = sink(**files, **({} if by_variable else {"headers": {"X-Key": SECRET}}))

    with pytest.raises(CollectorAwayError, match="is not known") as caught:
        made([make_process("Ship")])

    assert SECRET not in str(caught.value)


def test_of_a_header_the_scheme_may_be_said_and_what_follows_may_not(settings: Any) -> None:
    settings.OTEL_AUDIT = {"OTLP": {"headers": {"authorization": "Bearer abcdef0123", "x": "no"}}}

    assert without_credentials("Bearer: there is no abcdef0123") == "Bearer: there is no [redacted]"


# ── checks ──────────────────────────────────────────────────────────────────────────────────────


def findings(identity: str) -> list[checks.CheckMessage]:
    """Return what one check found."""
    return [message for message in checks.run_checks(tags=["otel_audit"]) if message.id == f"otel_audit.{identity}"]


@pytest.mark.parametrize(
    ("options", "said", "write"),
    [
        ({"certificate": "/no/such.pem"}, '["certificate"] cannot be used: it, or its key, cannot be read', "PEM"),
        ({"certificate": "{text}"}, '["certificate"] cannot be used: it, or its key, is no PEM', "PEM"),
        (
            {"client_certificate": "{own}"},
            '["client_certificate"] cannot be used: it, or its key, is no PEM',
            "its key",
        ),
        ({"client_certificate": "{own}", "client_key": "{foreign}"}, "do not belong together", "its key"),
        ({"client_certificate": "{own}", "client_key": "{locked}"}, "cannot be used", "no passphrase"),
        ({"client_key": "{key}"}, "without a client certificate", '["client_certificate"]'),
    ],
)
def test_a_file_that_cannot_be_used_is_said_with_what_to_write(
    settings: Any, authority: Authority, own: Pair, tmp_path: Path, options: dict[str, str], said: str, write: str
) -> None:
    (tmp_path / "text").write_text("This is no certificate.")
    locked = authority.issue("locked", password="x" * 20)
    places = {"text": tmp_path / "text", "own": own.certificate, "key": own.key}
    places |= {"foreign": authority.issue("other").key, "locked": locked.key}
    written = {key: path.format(**places) for key, path in options.items()}
    settings.OTEL_AUDIT = {"OTLP": {"endpoint": "https://c:4318/v1/traces", **written}}

    (found,) = findings("E052")

    assert said in found.msg
    assert write in str(found.hint)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate", "'deflate': that is not spoken here"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/no/such.pem", "cannot be read"),
    ],
)
def test_a_standard_variable_that_cannot_be_used_is_said(
    settings: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    settings.OTEL_AUDIT = {}
    monkeypatch.setenv(variable, value)
    assert findings("E052") == []  # nothing is forwarded
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4318")

    (found,) = findings("E052")

    assert variable in found.msg
    assert said in found.msg


@pytest.mark.parametrize(
    ("endpoint", "expected"), [("http://c:4318/v1/traces", 1), ("https://c:4318/v1/traces", 0), (None, 0)]
)
def test_files_of_tls_for_an_endpoint_in_clear_are_said(
    settings: Any, authority: Authority, endpoint: str | None, expected: int
) -> None:
    settings.OTEL_AUDIT = {"OTLP": {"endpoint": endpoint, "certificate": authority.certificate}}

    found = findings("W032")

    assert len(found) == expected
    assert all("https://" in str(message.hint) for message in found)


def test_files_that_can_be_used_are_no_finding(settings: Any, files: dict[str, Path]) -> None:
    settings.OTEL_AUDIT = {"OTLP": {"endpoint": "https://c:4318/v1/traces", "compression": "gzip", **files}}

    assert [found.id for found in checks.run_checks(tags=["otel_audit"]) if found.id in FORWARDING_CHECKS] == []


FORWARDING_CHECKS = {f"otel_audit.{name}" for name in ("E024", "E052", "W026", "W032")}
