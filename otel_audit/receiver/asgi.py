"""The receiver as an ASGI application of that one path, without middleware: nothing of the site but its settings.

Unlike Django's own handler it takes no more of a body than the receiver accepts, and refuses whom it does not know
before it takes anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from otel_audit.receiver.answers import JSON, Answer, refused
from otel_audit.receiver.exchange import Exchange

__all__ = ["PATH", "application"]

PATH: Final = "/v1/traces"
#: A body that takes longer does not come at all.
BODY_S: Final = 30.0

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


async def application(scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
    """Serve one request."""
    if scope["type"] != "http":
        raise ValueError(f"the receiver speaks HTTP, not {scope['type']}")
    answer = await _answer(scope, receive)
    headers = {"content-type": answer.content_type, "content-length": str(len(answer.body)), **answer.headers}
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": answer.body})


async def _answer(scope: MutableMapping[str, Any], receive: _Receive) -> Answer:
    if scope["path"] != PATH:
        return refused(404, f"Spans come to {PATH}.", JSON)
    if scope["method"] != "POST":
        return refused(405, "Spans come by POST.", JSON, {"Allow": "POST"})
    headers: dict[str, str] = {}
    for name, value in ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]):
        # Joined as other servers do: what a proxy adds beside the client's own is no value that anybody knows.
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    client = scope.get("client")
    exchange = Exchange(lambda name: headers.get(name, ""), client[0] if client else "")
    refusal = await asyncio.to_thread(exchange.refusal)  # it may ask the database
    if refusal is not None:
        return refusal
    return await asyncio.to_thread(exchange.answer, await _body(receive))


async def _body(receive: _Receive) -> bytes | None:
    """Return the body, somewhat more where it is too large; None where the client went away or is too slow."""
    from otel_audit_exporters.otlp_requests import MAX_BYTES

    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while len(body) <= MAX_BYTES:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        return None
    return bytes(body)
