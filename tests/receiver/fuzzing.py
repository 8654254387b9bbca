"""Fuzzes what the receiver reads, in protobuf and JSON, with and without gzip, guided by coverage.

Run as ``python -m tests.receiver.fuzzing [libFuzzer's options] [corpus]``, such as ``-max_total_time=600``; it needs
atheris. The suite runs it for a few seconds. Each input is taken or refused for a reason, and what is taken becomes
rows: anything else is an exception, and ends the run with the input in a file. So does an input that takes more than
ten seconds, or a gigabyte.
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["otel_audit_exporters", "otel_audit.receiver"]):
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()

    from django.test.utils import setup_test_environment

    from otel_audit import edges
    from otel_audit.receiver import exchange, tokens
    from otel_audit.receiver.answers import JSON, PROTOBUF
    from otel_audit.testing import capture
    from otel_audit_exporters import received_records
    from tests.receiver.sending import Service, as_json, register

#: By the two lowest bits of the first byte of an input; what follows is the body.
WAYS = ((PROTOBUF, False), (JSON, False), (PROTOBUF, True), (JSON, True))
EXPECTED = {200, 400, 403, 409, 413}
WORDS = ["audit.kind", "audit.record.id", "audit.step.order", "audit.registration", "audit.login", "audit.changed"]
WORDS += ["process", "step", "request", "registration", "login", "resourceSpans", "scopeSpans", "spans", "traceId"]
WORDS += ["spanId", "parentSpanId", "attributes", "arrayValue", "kvlistValue", "stringValue", "intValue", "bytesValue"]
WORDS += ["startTimeUnixNano", "events", "links", "service.name", "http.request.body.size", "exception.stacktrace"]


def fuzz(data: bytes) -> None:
    """Send one input."""
    exchange._known._hashes.clear()  # else most mutations are conflicts with their seed
    content_type, compressed = WAYS[data[0] & 3 if data else 0]
    body = gzip.compress(data[1:], 1) if compressed else data[1:]
    headers = {
        "authorization": "Bearer x",
        "content-type": content_type,
        "content-encoding": "gzip" if compressed else "",
    }
    one = exchange.Exchange(lambda name: headers.get(name, ""), "127.0.0.1")
    with capture() as records:
        answer = one.refusal() or one.answer(body)
        list(records)
    if answer.status not in EXPECTED:
        raise AssertionError(f"{answer.status}: {answer.body!r}")


def seeds() -> Iterator[bytes]:
    """Yield an input in each encoding with something of everything."""
    service = Service()
    with service.process(**{"password": "x", "list": [1, 2], "audit.record.id": "a"}), service.step() as span:
        register(span, **{"audit.registration.name": "n"})
        span.add_event("audit.login", {"audit.action": "LOGIN", "user.name": "anna"})
        span.record_exception(ValueError("x"))
    service.tracer.start_span("GET /", attributes={"audit.kind": "request", "url.path": "/?token=x"}).end()
    request = service.request()
    for way, (content_type, _) in enumerate(WAYS):
        body = request.SerializeToString() if content_type == PROTOBUF else as_json(request)
        yield bytes([way]) + body


def main() -> None:
    """Fuzz until told to stop."""
    setup_test_environment()
    edges.reraise = True
    tokens.Senders.find = lambda self, token: tokens.Sender("shop", None)  # type: ignore[method-assign]
    received_records._AHEAD_NS = 10**18  # seeds stay of the present whatever a mutation does to the clock
    with tempfile.TemporaryDirectory() as directory:
        corpus, words = Path(directory, "corpus"), Path(directory, "words")
        corpus.mkdir()
        for number, seed in enumerate(seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
        words.write_text("".join(f'"{word}"\n' for word in WORDS))
        options = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=8192", f"-dict={words}"]
        atheris.Setup([sys.argv[0], *options, *sys.argv[1:], str(corpus)], fuzz)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
