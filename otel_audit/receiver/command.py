"""The subcommands ``token`` and ``receive`` of ``manage.py otel_audit``."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from typing import Any, Final

from django.apps import apps
from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError
from django.utils import timezone

from otel_audit.conf import conf

__all__ = ["add_receive", "add_token", "receive", "token"]

_SAY = Callable[[str], None]
_BIND: Final = re.compile(r"fd://(?P<fd>\d{1,4})|(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:/\[\]]+)):(?P<port>\d{1,5})")


def add_token(commands: Any) -> None:
    """Define ``token``."""
    parser: CommandParser = commands.add_parser("token", help="Make, list and revoke the tokens of the receiver.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="create | list | revoke")
    create = actions.add_parser("create", help="Make a token, which is shown once.")
    create.add_argument("--service", required=True, type=_service, help="The service that its sender is.")
    create.add_argument(
        "--rate", type=_rate, metavar="SPANS", help="Spans a second that it may send to each process (default: any)."
    )
    create.add_argument(
        "--certificate",
        type=_certificate,
        metavar="NAME",
        help="Make no token: let who has this certificate in, as the proxy says it in RECEIVER_CERTIFICATE_HEADER.",
    )
    actions.add_parser("list", help="Say which tokens there are.")
    revoke = actions.add_parser("revoke", help="Let a token count no more.")
    revoke.add_argument("id", type=int, help="Its number in the list.")


def add_receive(commands: Any) -> None:
    """Define ``receive``."""
    parser = commands.add_parser("receive", help="Serve POST /v1/traces, the OTLP/HTTP receiver.")
    parser.add_argument(
        "--bind",
        type=_address,
        default="127.0.0.1:4318",
        metavar="HOST:PORT",
        help="Where to listen, or fd://3 for a socket that is there already (default: %(default)s).",
    )


def token(options: dict[str, Any], say: _SAY) -> None:
    """Run ``token``."""
    _require_app()
    try:
        {"create": _create, "list": _list, "revoke": _revoke}[options["action"]](options, say)
    except DatabaseError as error:
        raise CommandError(
            f"The table of the tokens cannot be used ({type(error).__name__}). Start the audit database, or run "
            f"manage.py migrate --database {conf.database}."
        ) from error


def receive(options: dict[str, Any], say: _SAY) -> None:
    """Run ``receive``, until it is told to stop."""
    _require_app()
    try:
        import opentelemetry.proto.collector.trace.v1.trace_service_pb2  # noqa: F401  # else each request would tell
        import uvicorn
    except ImportError as error:
        raise CommandError(
            "The receiver needs packages that are not installed; write pip install 'otel-audit[receiver]'."
        ) from error
    from otel_audit.receiver.asgi import PATH, application
    from otel_audit_exporters.pipeline import pipeline

    bind = options["bind"]
    pipeline.start()  # what an earlier process left
    say(f"Receiving POST {PATH} at {bind.pop('said')}")
    config = uvicorn.Config(
        application,
        **bind,
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # who connects is whom we believe, not whom X-Forwarded-For names
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(config).run()
    say(f"Stopped; {pipeline.shutdown()} records are left.")


def _require_app() -> None:
    if not apps.is_installed("otel_audit.receiver"):
        raise CommandError('Add "otel_audit.receiver" to INSTALLED_APPS, and migrate: it has the table of the tokens.')


def _create(options: dict[str, Any], say: _SAY) -> None:
    from otel_audit.receiver.models import ReceiverToken

    if (certificate := options["certificate"]) is not None:
        admitted = ReceiverToken.admit(options["service"], certificate, options["rate"])
        if admitted is None:
            raise CommandError(
                f"Somebody is let in by the certificate {certificate!r} already; revoke that entry first."
            )
        say(f"Entry {admitted.pk} of {admitted.service}: who has the certificate {certificate!r}.")
        if conf.receiver_certificate_header is None:
            say('OTEL_AUDIT["RECEIVER_CERTIFICATE_HEADER"] is not set: nobody is let in by a certificate.')
        return
    made, text = ReceiverToken.issue(options["service"], options["rate"])
    say(f"Token {made.pk} of {made.service}; it is shown this once:")
    say(text)


def _list(options: dict[str, Any], say: _SAY) -> None:
    for line in _lines():
        say(line)


def _lines() -> Iterator[str]:
    from otel_audit.receiver.models import ReceiverToken

    found = ReceiverToken.objects.using(conf.database).order_by("pk")
    if not found:
        yield "There is none."
    for one in found:
        rate = "any rate" if one.spans_per_second is None else f"{one.spans_per_second} spans/s"
        state = "valid" if one.revoked_at is None else f"revoked {one.revoked_at:%Y-%m-%d %H:%M} UTC"
        yield f"{one.pk:>4}  {one.service:<30}  {one.created_at:%Y-%m-%d %H:%M} UTC  {rate:<16}  {state}"


def _revoke(options: dict[str, Any], say: _SAY) -> None:
    from otel_audit.receiver.models import ReceiverToken

    number = options["id"]
    if (
        not ReceiverToken.objects.using(conf.database)
        .filter(pk=number, revoked_at=None)
        .update(revoked_at=timezone.now())
    ):
        raise CommandError(f"There is no valid token {number} in {conf.database!r}.")
    say(f"Token {number} is revoked; a receiver that runs takes it for a few seconds more.")


def _service(text: str) -> str:
    if not text.strip() or len(text) > 255 or not text.isprintable():
        raise ArgumentTypeError("a service has a name of at most 255 printable characters")
    return text


def _certificate(text: str) -> str:
    name = text.strip()
    if not name or len(name) > 4096 or not name.isascii() or not name.isprintable():
        raise ArgumentTypeError("write what the proxy sends, in printable ASCII, such as the fingerprint")
    return name


def _rate(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise ArgumentTypeError(f"{text!r} is no number of spans a second")
    return int(text)


def _address(text: str) -> dict[str, Any]:
    """Return what the server is told, and what is told of it."""
    found = _BIND.fullmatch(text)
    if found is None or int(found["port"] or 0) > 65_535:
        raise ArgumentTypeError(f"{text!r} is no address; write 127.0.0.1:4318, [::1]:4318 or fd://3")
    if found["fd"]:
        return {"said": text, "fd": int(found["fd"])}
    return {"said": text, "host": found["v6"] or found["host"], "port": int(found["port"])}
