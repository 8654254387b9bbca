"""The table of hostile requests: what is sent, and what the one row of each says."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .conftest import People
from .sites import http

__all__ = ["ENTRIES", "Entry"]

JSON = "Content-Type: application/json"
FORM = "Content-Type: application/x-www-form-urlencoded"
MULTIPART = "Content-Type: multipart/form-data; boundary=B"
PARSERS = {"wsgi": "gunicorn", "asgi": "h11"}


@dataclass(frozen=True)
class Entry:
    """One hostile request.

    Attributes:
        raw: the bytes, or what makes them of the people that the site knows.
        row: what the row says, beside status and outcome, which are those of the answer; values may be predicates.
        method: as the row has it.
        url: as the row has it.
        asgi_url: the same where the ASGI server decodes it otherwise.
        refused: doors where these bytes come to no middleware of the site, with the reason.
    """

    raw: bytes | Callable[[People], bytes]
    url: str
    asgi_url: str = ""
    method: str = "GET"
    row: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def sent(self, people: People) -> bytes:
        """Return what to send."""
        return self.raw if isinstance(self.raw, bytes) else self.raw(people)


def contains(*parts: str) -> Callable[[Any], bool]:
    """Return a predicate: every part stands in the value."""
    return lambda value: all(part in str(value) for part in parts)


def multipart(count: int) -> bytes:
    """Return a multipart body of ``count`` fields."""
    part = b'--B\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nv\r\n'
    return b"".join(part % number for number in range(count)) + b"--B--\r\n"


def data(body: bytes, *headers: str) -> bytes:
    """Return a POST to the view that writes its data wherever it can."""
    return http("POST", "/data/", *(headers or (JSON,)), body=body)


def bearer(user_id: Any, **claims: Any) -> Callable[[People], bytes]:
    """Return what makes a request with a signed token; a callable ``user_id`` takes it of the people."""
    return lambda people: http(
        "GET",
        "/who/",
        f"Authorization: Bearer {people.token(user_id(people) if callable(user_id) else user_id, **claims)}",
    )


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLAIM = "otel-audit=0190a8e0123470008000000000000001"
PARENT = f"traceparent: 00-{TRACE}-00f067aa0ba902b7"
LOCAL = {"ip_addresses": "127.0.0.1"}
ESCAPES = "\x1b[2J\x1b]0;x\x07"
VISIBLE = {door: f"{parser} takes a target of visible ASCII characters alone" for door, parser in PARSERS.items()}
CONTROL = {door: f"{parser} takes no control characters in a header" for door, parser in PARSERS.items()}
LENGTH = {door: f"{parser} takes one length of a number of bytes" for door, parser in PARSERS.items()}
#: uvicorn decodes the path itself, and replaces what is no UTF-8.
BROKEN = "\ufffd"

TEXT: dict[str, Entry] = {
    "NUL in the path": Entry(http("GET", "/echo/a%00b"), "/echo/a\\x00b", row={"changed_fields": contains("url")}),
    "raw NUL in the path": Entry(http("GET", b"/echo/a\0b"), "/echo/a\\x00b", refused=VISIBLE),
    "invalid UTF-8 in the path": Entry(http("GET", "/echo/%ff%fe"), "/echo/%FF%FE", asgi_url="/echo/" + BROKEN * 2),
    "overlong UTF-8 in the path": Entry(
        http("GET", "/echo/%c0%ae%c0%ae/"), "/echo/%C0%AE%C0%AE/", asgi_url="/echo/" + BROKEN * 4 + "/"
    ),
    "surrogate in the path": Entry(http("GET", "/echo/%ed%a0%80"), "/echo/%ED%A0%80", asgi_url="/echo/" + BROKEN * 3),
    "raw high bytes in the path": Entry(http("GET", b"/echo/\xff\xc3\xa9"), "/echo/%FFé", refused=VISIBLE),
    "emoji in the path": Entry(http("GET", "/echo/%F0%9F%92%A3"), "/echo/💣"),
    "right-to-left marks in the path": Entry(http("GET", "/echo/%E2%80%AEtxt.exe"), "/echo/\u202etxt.exe"),
    "CR and LF in the path": Entry(http("GET", "/echo/a%0d%0aSet-Cookie:%20x=1"), "/echo/a\r\nSet-Cookie: [redacted]"),
    "ANSI escapes in the path": Entry(http("GET", "/echo/%1b%5b2J%1b%5d0;x%07"), f"/echo/{ESCAPES}"),
    "NUL in the query": Entry(http("GET", "/echo/?a=%00&b=1"), "/echo/", row={"query_params": "a=%00&b=1"}),
    "invalid UTF-8 in the query": Entry(
        http("GET", "/echo/?a=%ff&a=%c3"), "/echo/", row={"query_params": "a=%ff&a=%c3"}
    ),
    "raw high bytes in the query": Entry(http("GET", b"/echo/?a=\xff"), "/echo/", refused=VISIBLE),
    "10,000 parameters": Entry(
        http("GET", "/echo/?" + "a=1&" * 10_000), "/echo/", row={"changed_fields": contains("query_params")}
    ),
    "NUL in a header": Entry(http("GET", "/echo/", b"User-Agent: a\0b"), "/echo/", refused=CONTROL),
    "high bytes in a header": Entry(
        http("GET", "/echo/", b"User-Agent: \xff\xfe\x80"), "/echo/", row={"user_agent": "\xff\xfe\x80"}
    ),
    "escapes in a header": Entry(
        http("GET", "/echo/", f"User-Agent: {ESCAPES}"),
        "/echo/",
        refused={"wsgi": CONTROL["wsgi"]},
        row={"user_agent": ESCAPES},
    ),
    "header of 60 KB": Entry(
        http("GET", "/echo/", "User-Agent: " + "u" * 60_000),
        "/echo/",
        row={"user_agent": "u" * 512, "changed_fields": contains("user_agent")},
    ),
    "cookies that are none": Entry(
        http("GET", "/echo/", b"Cookie: sessionid=; =;;; \xff=\xfe; sessionid=\x80"), "/echo/"
    ),
    "cookie of 60 KB": Entry(http("GET", "/echo/", "Cookie: sessionid=" + "c" * 60_000), "/echo/"),
    "URL of 64 KB": Entry(
        http("GET", "/echo/" + "p" * 65_000), "/echo/" + "p" * 2042, row={"changed_fields": contains("url")}
    ),
    "query of 64 KB": Entry(
        http("GET", "/echo/?q=" + "p" * 65_000), "/echo/", row={"changed_fields": contains("query_params")}
    ),
    "method of 200 characters": Entry(
        http("M" * 200, "/echo/"), "/echo/", method="M" * 32, row={"changed_fields": contains("method")}
    ),
    "method in small letters": Entry(http("pOsT", "/echo/", body=b"{}"), "/echo/", method="POST"),
    "method of signs": Entry(http("!#$%&'*+", "/echo/"), "/echo/", method="!#$%&'*+"),
    "TRACE": Entry(http("TRACE", "/echo/"), "/echo/", method="TRACE"),
    "absolute target": Entry(
        http("GET", "http://user:pa55word@evil.example/echo/?a=1"),
        "/echo/",
        asgi_url="http://user:[redacted]@evil.example/echo/",
    ),
    "asterisk": Entry(http("OPTIONS", "*"), "/*", method="OPTIONS", asgi_url="*"),
    "double slashes": Entry(http("GET", "//evil.example/echo/"), "//evil.example/echo/"),
    "dots": Entry(http("GET", "/static/../echo/%2e%2e/"), "/static/../echo/../"),
    "nothing after the version": Entry(b"GET /echo/ HTTP/1.0\r\n\r\n", "/echo/"),
}

INTEGERS = {"2^31": 2**31, "2^63": 2**63, "-2^63": -(2**63), "2^64": 2**64, "10^400": 10**400}
SENT: dict[str, bytes] = {
    "NUL in JSON": data(b'{"a\\u0000": "\\u0000"}'),
    "raw NUL in JSON": data(b'{"a": "\0"}'),
    "lone surrogates in JSON": data(b'{"\\ud800": "\\udfff \\ud800 x", "s": ["\\udc80"]}'),
    "a lone surrogate for a document": data(b'"\\ud800"'),
    "invalid UTF-8 in JSON": data(b'{"a": "\xff\xfe"}'),
    "NaN and Infinity": data(b'{"a": NaN, "b": Infinity, "c": -Infinity, "d": 1e999}'),
    **{f"integer {name}": data(b'{"a": %s}' % str(value).encode()) for name, value in INTEGERS.items()},
    "integer of 5,000 digits": data(b'{"a": %s}' % (b"7" * 5000)),
    "UTF-16 JSON": data('{"a": "é"}'.encode("utf-16")),
    "UTF-16 JSON that says so": data('{"a": "é"}'.encode("utf-16"), JSON + "; charset=utf-16"),
    "JSON in a charset that is none": data(b'{"a": 1}', JSON + "; charset=rot13"),
    "gzip body": data(gzip.compress(b'{"a": 1}' * 1000, mtime=0), JSON, "Content-Encoding: gzip"),
    "JSON 900 levels deep": data(b"[" * 900 + b"]" * 900),
    "JSON 100,000 levels deep": data(b"[" * 100_000 + b"]" * 100_000),
    "objects 100,000 levels deep": data(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "duplicate keys": data(b'{"a": 1, "a": 2, "password": "one", "password": "two"}'),
    "20,000 keys": data(json.dumps({f"k{n}": n for n in range(20_000)}).encode()),
    "emoji and marks": data('{"a": "💣\u202e\u200f"}'.encode()),
    "1 MB of combining characters": data(b'{"a": "e' + "\u0301".encode() * 500_000 + b'"}'),
    "100 MB JSON": data(b'{"a": "' + b"x" * 100_000_000 + b'", "password": "one"}'),
    "20 MB of texts": data(json.dumps({"a": ["password: one, token=two " * 2500] * 300}).encode()),
    "10,000 names that are one without their secrets": data(
        json.dumps({f"Bearer abcdef{number}": number for number in range(10_000)}).encode()
    ),
    "ANSI escapes in JSON": data(b'{"a": "\\u001b[2J\\r\\nGET /forged HTTP/1.1"}'),
    "markup in JSON": data(b'{"a": "<script>alert(1)</script><img src=x onerror=alert(1)>"}'),
    "JSON as a form": data(b'{"a": 1}', FORM),
    "JSON as multipart": data(b'{"a": 1}', MULTIPART),
    "JSON as text": data(b'{"a": 1}', "Content-Type: text/plain"),
    "no content type": http("POST", "/data/", body=b'{"a": 1}'),
    "content type of 9 KB": data(b"{}", "Content-Type: " + "a/" * 4500),
    "content type of bytes": data(b"{}", "Content-Type: \xff\xfe"),
    "two content types": data(b"{}", JSON, FORM),
    "length that is none": http("POST", "/data/", JSON, "Content-Length: 0", body=b""),
    "X-HTTP-Method-Override": http("POST", "/data/", JSON, "X-HTTP-Method-Override: GET", body=b"{}"),
}
REFUSED = {"two content types": {"wsgi": "gunicorn takes one content type"}}
DATA = {name: Entry(raw, "/data/", method="POST", refused=REFUSED.get(name, {})) for name, raw in SENT.items()}

UPLOAD = (
    b'--B\r\nContent-Disposition: form-data; name="a"; filename="password=one"\r\n\r\n'
    + b"\xff" * 20_000_000
    + b"\r\n--B--\r\n"
)
RIGHT_TO_LEFT = (
    '--B\r\nContent-Disposition: form-data; name="a"; filename="photo\u202egpj.exe"\r\n'
    "Content-Type: image/jpeg\r\n\r\nMZ\x01\x02\r\n--B--\r\n"
).encode()
BODIES: dict[str, Entry] = {
    "10,000 parts": Entry(http("POST", "/form/", MULTIPART, body=multipart(10_000)), "/form/", method="POST"),
    "900 parts": Entry(
        http("POST", "/form/", MULTIPART, body=multipart(900)),
        "/form/",
        method="POST",
        row={"request_size": len(multipart(900))},
    ),
    "multipart with NUL names": Entry(
        http(
            "POST",
            "/form/",
            MULTIPART,
            body=b'--B\r\nContent-Disposition: form-data; name="a\0"; filename="b\0\xff"\r\n\r\n\0\xff\r\n--B--\r\n',
        ),
        "/form/",
        method="POST",
    ),
    "upload whose name reads the other way": Entry(
        http("POST", "/form/", MULTIPART, body=RIGHT_TO_LEFT),
        "/form/",
        method="POST",
        row={"request_body": contains('"file": "photo\u202egpj.exe"', '"size": 4')},
    ),
    "multipart that does not end": Entry(
        http("POST", "/form/", MULTIPART, body=multipart(3)[:-20]), "/form/", method="POST"
    ),
    "multipart without a boundary": Entry(
        http("POST", "/form/", "Content-Type: multipart/form-data", body=multipart(2)), "/form/", method="POST"
    ),
    "form of invalid UTF-8": Entry(
        http("POST", "/form/", FORM, body=b"a=%ff&b=\xff&c=%00&%ed%a0%80=1"), "/form/", method="POST"
    ),
    "form of 5,000 fields": Entry(http("POST", "/form/", FORM, body=b"a=1&" * 5000), "/form/", method="POST"),
    "form in UTF-7": Entry(http("POST", "/form/", FORM + "; charset=utf-7", body=b"a=1"), "/form/", method="POST"),
    "upload of 20 MB": Entry(
        http("POST", "/form/", MULTIPART, body=UPLOAD),
        "/form/",
        method="POST",
        row={"request_size": len(UPLOAD), "request_body": lambda found: "one" not in found},
    ),
    "chunked": Entry(
        http("POST", "/chunks/", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"),
        "/chunks/",
        method="POST",
    ),
    "chunked JSON": Entry(
        http("POST", "/data/", JSON, "Transfer-Encoding: chunked", body=b'8\r\n{"a": 1}\r\n0\r\nX: y\r\n\r\n'),
        "/data/",
        method="POST",
    ),
    "3 MB read whole": Entry(
        http("POST", "/echo/", body=b"x" * 3_000_000), "/echo/", method="POST", row={"status_code": 400}
    ),
    "8 MB streamed": Entry(
        http("POST", "/chunks/", body=b"x" * 8_000_000),
        "/chunks/",
        method="POST",
        row={"request_size": 8_000_000, "changed_fields": contains("request_body:cut")},
    ),
    "body nobody reads": Entry(
        http("POST", "/deaf/", body=b"x" * 10_000),
        "/deaf/",
        method="POST",
        row={"request_body": None, "request_size": 10_000},
    ),
    "body of a GET": Entry(http("GET", "/echo/", JSON, body=b'{"a": 1}'), "/echo/", row={"request_body": '{"a": 1}'}),
    "two lengths": Entry(
        http("POST", "/echo/", "Content-Length: 3", "Content-Length: 5", body=b"abcde"),
        "/echo/",
        method="POST",
        refused=LENGTH,
    ),
    "length and chunks": Entry(
        http("POST", "/echo/", "Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        "/echo/",
        method="POST",
        refused={"wsgi": LENGTH["wsgi"]},
    ),
    "length of 5,000 digits": Entry(
        http("POST", "/deaf/", "Content-Length: " + "9" * 5000), "/deaf/", method="POST", refused=LENGTH
    ),
}

IDENTITY: dict[str, Entry] = {
    "X-Forwarded-For spoofed": Entry(
        http("GET", "/echo/", "X-Forwarded-For: 10.0.0.1, 127.0.0.1"), "/echo/", row=LOCAL
    ),
    "X-Forwarded-For with port and zone": Entry(
        http("GET", "/echo/", "X-Forwarded-For: [fe80::1%eth0]:443, 1.2.3.4:5"), "/echo/", row=LOCAL
    ),
    "X-Forwarded-For of 5,000 characters": Entry(
        http("GET", "/echo/", "X-Forwarded-For: " + "1.2.3.4, " * 600), "/echo/", row=LOCAL
    ),
    "X-Forwarded-For of garbage": Entry(
        http("GET", "/echo/", b"X-Forwarded-For: \xff', \"; DROP TABLE x; --"), "/echo/", row=LOCAL
    ),
    "Forwarded": Entry(http("GET", "/echo/", 'Forwarded: for="[::1]";proto=https;host=evil'), "/echo/", row=LOCAL),
    "X-Real-IP and the like": Entry(
        http("GET", "/echo/", "X-Real-IP: 1.1.1.1", "True-Client-IP: 1.1.1.1"), "/echo/", row=LOCAL
    ),
    "traceparent with flag 00": Entry(
        http("GET", "/echo/", f"{PARENT}-00"), "/echo/", row={"trace_id": TRACE, "parent_span_id": "00f067aa0ba902b7"}
    ),
    "traceparent with flag 01": Entry(http("GET", "/echo/", f"{PARENT}-01"), "/echo/", row={"trace_id": TRACE}),
    "traceparent used again": Entry(http("GET", "/echo/", f"{PARENT}-01"), "/echo/", row={"trace_id": TRACE}),
    "traceparent of zeros": Entry(
        http("GET", "/echo/", f"traceparent: 00-{'0' * 32}-{'0' * 16}-01"), "/echo/", row={"parent_span_id": ""}
    ),
    "traceparent of version ff": Entry(
        http("GET", "/echo/", f"traceparent: ff-{TRACE}-00f067aa0ba902b7-01"), "/echo/", row={"parent_span_id": ""}
    ),
    "traceparent of garbage": Entry(
        http("GET", "/echo/", b"traceparent: \xff\xfe-" + b"a" * 10_000), "/echo/", row={"parent_span_id": ""}
    ),
    "two traceparents": Entry(http("GET", "/echo/", f"{PARENT}-00", f"{PARENT}-00"), "/echo/"),
    "tracestate and baggage with our keys": Entry(
        http(
            "GET",
            "/echo/",
            f"{PARENT}-00",
            "tracestate: audit.kind=none,otel_audit=off",
            "baggage: audit.actor.id=1,enduser.id=root,audit.kind=process",
        ),
        "/echo/",
        row={"actor_name": "anonymous"},
    ),
    "tracestate that claims a process, from the address of a trusted peer": Entry(
        http("GET", "/echo/", f"{PARENT}-01", f"tracestate: {CLAIM}-{'0' * 32},{CLAIM}"),
        "/echo/",
        row={"actor_name": "anonymous", "extra_informations": lambda found: "audit.process.id" not in str(found)},
    ),
    "tracestate of garbage": Entry(
        http("GET", "/echo/", f"{PARENT}-00", b"tracestate: =,,;\xff=" + b"x" * 9000), "/echo/"
    ),
    "baggage of garbage": Entry(http("GET", "/echo/", b"baggage: %ff%ed%a0%80=%00,=;=,\xff" + b"x" * 9000), "/echo/"),
    "request id": Entry(http("GET", "/echo/", "X-Request-ID: 00000000-0000-7000-8000-000000000000"), "/echo/"),
    "actor headers": Entry(
        http("GET", "/echo/", "X-Remote-User: root", "Remote-User: root", "X-User-Id: 1"),
        "/echo/",
        row={"actor_name": "anonymous"},
    ),
    "token of a user": Entry(bearer(lambda people: people.ada), "/who/", row={"actor_name": "ada", "status_code": 200}),
    "token with a non-numeric user": Entry(
        bearer("nobody\0\ud800".replace("\ud800", "")), "/who/", row={"outcome": "failure", "actor_name": "anonymous"}
    ),
    "token with a huge user": Entry(bearer(10**30), "/who/", row={"outcome": "failure", "actor_name": "anonymous"}),
    "token with a list for a user": Entry(bearer([1]), "/who/", row={"outcome": "failure", "actor_name": "anonymous"}),
    "token of a deleted user": Entry(
        bearer(lambda people: people.deleted), "/who/", row={"status_code": 401, "actor_name": "anonymous"}
    ),
    "token of an inactive user": Entry(
        bearer(lambda people: people.bob), "/who/", row={"status_code": 401, "actor_name": "anonymous"}
    ),
    "token that has expired": Entry(bearer(1, exp=1), "/who/", row={"status_code": 401, "actor_name": "anonymous"}),
    "token without a signature": Entry(
        http("GET", "/who/", "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjoxfQ."),
        "/who/",
        row={"status_code": 401, "actor_name": "anonymous"},
    ),
    "token of garbage": Entry(
        http("GET", "/who/", b"Authorization: Bearer \xff.\xfe.\x80"), "/who/", row={"actor_name": "anonymous"}
    ),
    "session": Entry(
        lambda people: http("GET", "/who/", f"Cookie: sessionid={people.session}"), "/who/", row={"actor_name": "ada"}
    ),
    "session that nobody asks for": Entry(
        lambda people: http("GET", "/echo/", f"Cookie: sessionid={people.session}"), "/echo/", row={"actor_name": "ada"}
    ),
    "user who is deleted in the request": Entry(
        http("GET", "/amid/deleted/"), "/amid/deleted/", row={"actor_name": "gone soon"}
    ),
    "user who signs out in the request that signs in": Entry(
        http("GET", "/amid/logout/"), "/amid/logout/", row={"actor_name": "ada"}
    ),
    "sign-in as another one that fails while signed in": Entry(
        lambda people: http("GET", "/amid/failure/", f"Cookie: sessionid={people.session}"),
        "/amid/failure/",
        row={"actor_name": "ada"},
    ),
    "link with a secret, without its slash": Entry(
        http("GET", "/invitation/abcdefg"), "/invitation/[redacted]", row={"status_code": 301, "outcome": "success"}
    ),
    "link with a secret, to another host": Entry(
        http("GET", "/invitation/abcdefg/", host="evil.example"), "/invitation/[redacted]/", row={"status_code": 400}
    ),
    "session of garbage": Entry(
        http("GET", "/echo/", b"Cookie: sessionid=\xff\x00".replace(b"\0", b"") + b"'\""),
        "/echo/",
        row={"actor_name": contains("an")},
    ),
}

#: What a middleware answered and the row says; where the server fails on it afterwards, nobody else can know.
MIDDLEWARE_ANSWERS = [
    ("outer/unrendered", 200, "success"),
    ("inner/unrendered", 500, "failure"),
    ("outer/bare", 204, "success"),
    ("inner/bare", 500, "failure"),
    ("outer/status", None, "unknown"),
    ("inner/status", None, "unknown"),
]
EVASION: dict[str, Entry] = {
    "word of an excluded URL in the path": Entry(http("GET", "/echo/api/health/"), "/echo/api/health/"),
    "word of an excluded URL in the query": Entry(
        http("GET", "/echo/?/api/health/"), "/echo/", row={"query_params": "/api/health/"}
    ),
    "excluded URL with a line's end behind": Entry(http("GET", "/api/health/%0a"), "/api/health/\n"),
    "excluded URL written otherwise": Entry(http("GET", "/API/health/"), "/API/health/"),
    "static prefix": Entry(http("GET", "/staticx/"), "/staticx/"),
    "script name": Entry(
        http("GET", "/static/echo/", "SCRIPT_NAME: /static"),
        "/static/echo/",
        refused={"asgi": "uvicorn takes no prefix from a client: this is a static file, which has no row"},
    ),
    "script name of an excluded URL": Entry(
        http("GET", "/api/health/echo/", "SCRIPT_NAME: /api/health"), "/api/health/echo/"
    ),
    "flood": Entry(http("GET", "/flood/"), "/flood/", row={"changed_fields": contains("span.dropped")}),
    "span that the view ends": Entry(http("GET", "/end-span/"), "/end-span/"),
    "unknown host": Entry(http("GET", "/echo/", host="evil.example"), "/echo/", row={"status_code": 400}),
    "host of bytes": Entry(http("GET", "/echo/", host=b"\xff\xfe:x"), "/echo/"),
    # It costs the server its environ, and us the trace that a client might continue: Django has answered by then.
    "view that empties request.META": Entry(
        http("GET", "/spoil/cleared/?a=1", "User-Agent: u"),
        "/spoil/cleared/",
        row={"query_params": "a=1", "user_agent": "u", "status_code": 200, "outcome": "success"},
    ),
    "absent page": Entry(http("GET", "/nowhere/"), "/nowhere/", row={"status_code": 404}),
    **{
        f"view that spoils its request: {what}": Entry(
            http("GET", f"/spoil/{what}/?a=1", f"{PARENT}-01", "User-Agent: u"),
            f"/spoil/{what}/",
            row={"query_params": "a=1", "user_agent": "u", "trace_id": TRACE},
        )
        for what in ("meta", "traceparent", "method", "user", "match", "dict")
    },
    **{
        f"error of a middleware: {place}": Entry(
            http("GET", f"/fail/{place}/"), f"/fail/{place}/", row={"status_code": 500, "outcome": "failure"}
        )
        for place in ("outer/request", "outer/response", "inner/request", "inner/response")
    },
    **{
        f"answer of a middleware: {place}": Entry(
            http("GET", f"/fail/{place}/"), f"/fail/{place}/", row={"status_code": code, "outcome": outcome}
        )
        for place, code, outcome in MIDDLEWARE_ANSWERS
    },
    **{
        f"crash: {how}": Entry(
            http("GET", f"/crash/{how}/"), f"/crash/{how}/", row={"status_code": 500, "error_type": contains(kind)}
        )
        for how, kind in {
            "silent": "Silent",
            "syntax": "SyntaxError",
            "deep": "RecursionError",
            "long": "ValueError",
            "cause": "TypeError",
            "none": "ValueError",
        }.items()
    },
    "crash with the body": Entry(
        http("POST", "/crash/echo/", body=b"\0\xff\xed\xa0\x80"),
        "/crash/echo/",
        method="POST",
        row={"status_code": 500, "error_message": contains("\\x00", "\\udcff")},
    ),
    "suspicious": Entry(
        http("GET", "/crash/suspicious/?text=%00%1b[2J%0d%0aforged"), "/crash/suspicious/", row={"status_code": 400}
    ),
    "deep and odd annotations": Entry(
        http("GET", "/deep/"), "/deep/", row={"extra_informations": contains("cut: nested", "\\x00", "\\ud800")}
    ),
    "stream": Entry(http("GET", "/stream/"), "/stream/"),
    "stream that fails": Entry(
        http("GET", "/torn/"),
        "/torn/",
        row={"status_code": 200, "outcome": "failure", "error_message": "torn in the middle"},
    ),
}

ENTRIES: dict[str, Entry] = {**TEXT, **DATA, **BODIES, **IDENTITY, **EVASION}
