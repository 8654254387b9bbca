"""Requests that nobody thought of: generated, sent as raw bytes, compared with the site without us."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .sites import Audited, http, send

EXAMPLES = int(os.environ.get("OTEL_AUDIT_HOSTILE_EXAMPLES", "20"))

_PIECES = st.sampled_from(
    ["echo", "data", "form", "deaf", "static", "..", ".", "%00", "%ff", "%2e%2e", "%0a", "%E2%80%AE", "api/health",
     ";a=b", "reset/Mg/token", "admin", "spoil/meta", "crash/echo", "//", "a" * 300, "%", "%zz", "é", "token=x"]
)  # fmt: skip
_HEADER_NAMES = st.sampled_from(
    ["Content-Type", "User-Agent", "X-Forwarded-For", "Forwarded", "traceparent", "tracestate", "baggage", "Cookie",
     "Authorization", "Referer", "SCRIPT_NAME", "PATH_INFO", "X-HTTP-Method-Override", "Content-Encoding", "Expect",
     "Range", "If-None-Match", "Accept", "Accept-Language", "Origin", "X-Request-ID", "Upgrade", "Transfer-Encoding"]
)  # fmt: skip
_HEADER_VALUES = st.one_of(
    st.sampled_from(
        ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=B", "text/xml", "gzip",
         "Bearer eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.x", "Basic Og==", "sessionid=x; csrftoken=y", "/static",
         "/echo",
         "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "a=b,c=d", "chunked", "100-continue", "bytes=0-1",
         "application/json; charset=utf-16", "127.0.0.1, unix:", 'for="[::1]"',
         "multipart/form-data; boundary=" + "B" * 300]
    ),
    st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\r\n\0").decode("latin-1")),
)  # fmt: skip
_BODIES = st.one_of(
    st.none(),
    st.sampled_from([b"", b"{}", b'{"a": ', b"\xff\xfe", b"a=1&b=%ff", b"--B\r\n", b'"\\ud800"', b"NaN", b"0\r\n\r\n"]),
    st.binary(max_size=200),
    st.recursive(
        st.sampled_from(["1", "null", '"x"', "1e999"]),
        lambda item: item.map(lambda text: f'{{"password": [{text}]}}'),
    ).map(str.encode),
)  # fmt: skip


@st.composite
def _requests(draw: Any) -> bytes:
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "X" * 40, "get"]))
    path = (
        "/"
        + "/".join(draw(st.lists(_PIECES, max_size=4)))
        + draw(st.sampled_from(["", "/", "?", "?a=1&a=%00&token=x"]))
    )
    headers = [f"{draw(_HEADER_NAMES)}: {draw(_HEADER_VALUES)}" for _ in range(draw(st.integers(0, 5)))]
    host = draw(st.sampled_from(["127.0.0.1", "127.0.0.1", "127.0.0.1:80", "evil.example", "[::1", ""]))
    body = draw(_BODIES)
    if any(header.lower().startswith("transfer-encoding:") for header in headers):
        body = (body or b"") + b"0\r\n\r\n"  # a server waits for the end of the last chunk
    return http(method, path, *headers, body=body, host=host)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="OTEL_AUDIT_HOSTILE_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(raw=_requests())
def test_generated_request_has_its_own_answer_and_at_most_one_row(door: Audited, raw: bytes) -> None:
    bare = send(door.bare, raw)
    answer = send(door.server, raw)
    rows = door.new_rows()

    assert answer == bare
    # Django's SecurityMiddleware marks what came through the site; a static file's path and the site's rules exclude.
    through = any(line.lower().startswith(b"x-content-type-options") for line in bare.headers)
    excluded = b"/static" in raw or b"/api/health" in raw
    if through and not excluded:
        assert len(rows) == 1
    assert len(rows) <= 1
    assert [line for line in door.site.own_log.splitlines() if line.startswith(("ERROR", "CRITICAL"))] == []
