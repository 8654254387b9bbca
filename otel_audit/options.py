"""The table of settings: for each key of ``OTEL_AUDIT`` its default, what it accepts and what to write.

A reader never raises. It returns the value to use and what is wrong with what was written: `otel_audit.conf`
uses the one, `otel_audit.checks` says the other, so that a rule stands in one place. What is wrong falls
back to the side that leaks less: a name of a secret that can be read is kept although its neighbour cannot.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from string import Formatter
from typing import Any, Final
from urllib.parse import urlsplit

from otel_audit.client_ip import parse_networks
from otel_audit.exceptions import ConfigurationError
from otel_audit.patterns import MAX_PATTERN
from otel_audit.redaction.marks import KEY_ID, MASK, MIN_KEY
from otel_audit.redaction.names import Names
from otel_audit.rules import LEVELS, RULE_KEYS, parse_legacy, parse_rules

__all__ = [
    "COMPRESSIONS",
    "LEGACY_OPTIONS",
    "OPTIONS",
    "OTLP_KEYS",
    "OTLP_LEVELS",
    "REDACT_KEYS",
    "Option",
    "Read",
    "Redaction",
    "shown",
    "spool_directory",
]

#: The value to use, and a sentence for each thing that is wrong with what was written.
Read = tuple[Any, list[str]]

#: Characters of a secret by which a service is known.
MIN_SECRET: Final = 16

REDACT_KEYS: Final = ("names", "callable", "hmac")
OTLP_KEYS: Final = (
    "endpoint",
    "headers",
    "protocol",
    "timeout",
    "compression",
    "certificate",
    "client_certificate",
    "client_key",
    "durable",
    "level",
)
OTLP_LEVELS: Final = ("trace", "audit", "full")
COMPRESSIONS: Final = ("gzip", "none")


@dataclass(frozen=True, slots=True)
class Option:
    """One key: what counts when it is absent, how it is read, what to write, the ancestor's names for it."""

    default: Any
    read: Callable[[Any], Read]
    write: str
    legacy: tuple[str, ...] = ()


def shown(value: Any) -> str:
    """Return ``value`` for a message: short, and without what may be a password."""
    if isinstance(value, str):
        return "a text with a URL in it" if "://" in value or "@" in value else reprlib.repr(value)
    return reprlib.repr(value) if isinstance(value, int | float | None) else f"a {type(value).__name__}"


def spool_directory(value: Any) -> Read:
    """Read the path of the spool directory."""
    if isinstance(value, str | PathLike):
        try:
            path = Path(fspath(value))
        except (TypeError, ValueError):
            return None, [f"{shown(value)} is no path"]
        if path.is_absolute() and "\0" not in str(path):
            return path, []
        return None, [f"{shown(str(path))} is no absolute path: each process would use another directory"]
    return None, [f"{shown(value)} is neither a path nor None"]


def _boolean(default: bool) -> Callable[[Any], Read]:
    def read(value: Any) -> Read:
        if isinstance(value, bool):
            return value, []
        return default, [f"{shown(value)} is neither True nor False"]

    return read


def _choice(default: str | None, *choices: str) -> Callable[[Any], Read]:
    def read(value: Any) -> Read:
        if value == default or (isinstance(value, str) and value in choices):
            return value, []
        return default, [f"{shown(value)} is none of {', '.join(map(repr, choices))}"]

    return read


def _name(default: str | None) -> Callable[[Any], Read]:
    def read(value: Any) -> Read:
        if (isinstance(value, str) and value.strip()) or (value is None and default is None):
            return value, []
        return default, [f"{shown(value)} is no name"]

    return read


def _spool_dir(value: Any) -> Read:
    return (None, []) if value is None else spool_directory(value)


def _bytes(value: Any) -> Read:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value, []
    return _SPOOL_MAX_BYTES, [f"{shown(value)} is no number of bytes"]


def _policy(value: Any) -> Read:
    return ((), []) if value is None else parse_rules(value)


def _each(value: Any, accept: Callable[[Any], Any], what: str) -> Read:
    """Read a list, or one item in its place; keep what ``accept`` makes of each, leave out its Nones."""
    items = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    read = [(item, accept(item)) for item in items]
    wrong = [f"{shown(item)} is no {what}" for item, taken in read if taken is None]
    return tuple(taken for _, taken in read if taken is not None), wrong


@dataclass(frozen=True, slots=True)
class Redaction:
    """What ``REDACT`` says: names of secrets, the site's own callable, keys of marks as (id, key), the first in use."""

    names: tuple[str, ...] = ()
    own: Callable[[str], Any] | None = None
    keys: tuple[tuple[str, bytes], ...] = ()


def _redact(value: Any) -> Read:
    if not isinstance(value, Mapping):
        names, wrong = _names(value)
        return Redaction(names), wrong
    wrong = [f"it has the unknown key {shown(key)}" for key in value if key not in REDACT_KEYS]
    names, of_names = _names(value.get("names", ()))
    own, of_own = _own(value.get("callable"))
    keys, of_keys = _keys(value.get("hmac") or {})
    return Redaction(names, own, keys), [*wrong, *of_names, *of_own, *of_keys]


def _names(value: Any) -> Read:
    return _each(value, lambda item: item if isinstance(item, str) and item.strip() else None, "name of a key")


def _own(value: Any) -> Read:
    """Read a callable or the dotted path of one. In the place of one that is wrong, everything is masked."""
    if value is None or callable(value):
        return value, []
    if not isinstance(value, str) or "." not in value:
        return _everything, [f"its 'callable' is {shown(value)}, neither a function nor the dotted path of one"]
    module, _, name = value.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # the site's module may raise anything
        return _everything, [f"its 'callable' {value!r} cannot be imported ({type(error).__name__})"]
    return (found, []) if callable(found) else (_everything, [f"its 'callable' {value!r} is no function"])


def _everything(text: str) -> str:
    return MASK


def _keys(value: Any) -> Read:
    """Read key id → key. No message shows a key."""
    if not isinstance(value, Mapping):
        return (), [f"its 'hmac' is a {type(value).__name__}, no dict of keys"]
    keys: list[tuple[str, bytes]] = []
    wrong: list[str] = []
    for name, key in value.items():
        if not isinstance(name, str) or KEY_ID.fullmatch(name) is None or Names().suspected(f"{name}:"):
            wrong.append(f"its 'hmac' has the key id {shown(name)}, no 1 to 16 lower-case letters, digits and dashes")
        elif not isinstance(key, str | bytes) or len(key) < MIN_KEY:
            wrong.append(f"its 'hmac' key {name!r} is shorter than {MIN_KEY} characters")
        else:
            keys.append((name, key.encode() if isinstance(key, str) else key))
    return tuple(keys), wrong


def _trusted_proxies(value: Any) -> Read:
    return _each(value, _network, "address or network without host bits")


def _trusted_peers(value: Any) -> Read:
    """Read networks and secrets. No message shows an item: it may be a secret in the wrong place."""
    items = value if isinstance(value, list | tuple) else (value,)
    right = [_network(item) is not None or _is_secret(item) for item in items]
    wrong = [
        f"item {number} is neither an address or network without host bits nor a dict with a 'secret' of at least "
        f"{MIN_SECRET} characters"
        for number, accepted in enumerate(right, start=1)
        if not accepted
    ]
    return tuple(item for item, accepted in zip(items, right, strict=True) if accepted), wrong


def _is_secret(item: Any) -> bool:
    if not isinstance(item, Mapping) or list(item) != ["secret"]:
        return False
    secret = item["secret"]
    return isinstance(secret, str) and len(secret) >= MIN_SECRET and secret.isascii() and secret.isprintable()


def _network(item: Any) -> str | None:
    if not isinstance(item, str):
        return None
    try:
        parse_networks((item,))
    except ConfigurationError:
        return None
    return item


def _auth_urls(value: Any) -> Read:
    return _each(value, lambda item: item if isinstance(item, str) and item.startswith("/") else None, "path")


def _status_codes(value: Any) -> Read:
    def accept(item: Any) -> int | None:
        return item if isinstance(item, int) and not isinstance(item, bool) and 100 <= item <= 599 else None

    codes, wrong = _each(value, accept, "HTTP status code")
    return (codes or (401,)) if wrong else codes, wrong


def _otlp(value: Any) -> Read:
    """Read the forwarding options. No message shows a value: endpoint and headers may hold credentials."""
    if value is None:
        return None, []
    if not isinstance(value, Mapping):
        return None, [f"a {type(value).__name__} is no dict"]
    wrong = [
        f"its {key!r} {problem}"
        for key, accept, problem in (
            ("endpoint", _is_endpoint, "is no full URL"),
            (
                "protocol",
                lambda found: found in ("http/protobuf", "grpc"),
                "is neither 'http/protobuf' nor 'grpc'",
            ),
            ("headers", _are_headers, "is no dict of texts"),
            ("timeout", _is_timeout, "is no number of seconds"),
            ("compression", lambda found: found in COMPRESSIONS, "is neither 'gzip' nor 'none'"),
            ("certificate", _is_file, "is no path"),
            ("client_certificate", _is_file, "is no path"),
            ("client_key", _is_file, "is no path"),
            ("durable", lambda found: isinstance(found, bool), "is neither True nor False"),
            ("level", lambda found: found in OTLP_LEVELS, "is none of 'trace', 'audit', 'full'"),
        )
        if value.get(key) is not None and not accept(value[key])
    ]
    unknown = [f"it has the unknown key {shown(key)}" for key in value if key not in OTLP_KEYS]
    return (None if wrong else value), wrong + unknown


def _is_endpoint(found: Any) -> bool:
    if not isinstance(found, str):
        return False
    try:
        parts = urlsplit(found)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _are_headers(found: Any) -> bool:
    return isinstance(found, Mapping) and all(
        isinstance(text, str) and text.isprintable() for item in found.items() for text in item
    )


def _is_file(found: Any) -> bool:
    if not isinstance(found, str | PathLike):
        return False
    path = fspath(found)
    return isinstance(path, str) and path.strip() != "" and "\0" not in path and "\n" not in path  # nor is it the PEM


def _is_timeout(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < 3600


def _header(value: Any) -> Read:
    """Read the name of a header. One with an underscore is another for some servers, and the same for others."""
    if value is None:
        return None, []
    if isinstance(value, str) and _HEADER.fullmatch(value) is not None:
        return value.lower(), []
    return None, [f"{shown(value)} is no name of a header of letters, digits and dashes"]


_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")


def _trace_url(value: Any) -> Read:
    if value is None:
        return None, []
    if not isinstance(value, str) or not re.match("https?://", value):
        return None, [f"{shown(value)} is no URL"]
    try:
        fields = {field for _, field, _, _ in Formatter().parse(value) if field is not None}
    except ValueError as error:
        return None, [f"it is no template: {error}"]
    if "trace_id" not in fields:
        return None, ["it has no {trace_id}"]
    unknown = sorted(fields - {"trace_id", "span_id"})
    return (None, [f"it has the unknown field {shown(unknown[0])}"]) if unknown else (value, [])


_SPOOL_MAX_BYTES: Final = 1024 * 1024 * 1024

OPTIONS: Final[dict[str, Option]] = {
    "ENABLED": Option(True, _boolean(True), "True or False"),
    "DATABASE": Option(
        "default",
        _name("default"),
        "an alias of DATABASES, such as 'audit'",
        ("DRF_AUDIT_TRAIL_DATABASE_ALIAS",),
    ),
    "SERVICE_NAME": Option(None, _name(None), "a name such as 'shop', or None for OpenTelemetry's service.name"),
    "DELIVERY": Option(None, _choice(None, "spool", "sync", "memory"), "'spool', 'sync' or 'memory'"),
    "SPOOL_DIR": Option(None, _spool_dir, "an absolute path such as '/var/lib/shop/audit', or None"),
    "SPOOL_MAX_BYTES": Option(_SPOOL_MAX_BYTES, _bytes, "a number of bytes such as 1024 ** 3"),
    "FSYNC": Option("interval", _choice("interval", "interval", "always"), "'interval' or 'always'"),
    "INTENTS": Option("off", _choice("off", "off", "record", "require"), "'off', 'record' or 'require'"),
    "DRAIN": Option("thread", _choice("thread", "thread", "external"), "'thread' or 'external'"),
    "POLICY": Option(
        None,
        _policy,
        "a list of rules such as {'path': r'^/reports/', 'methods': ['GET'], 'level': 'metadata'}; "
        f"the level is one of {', '.join(LEVELS)}, path and route a regex of at most {MAX_PATTERN} characters, "
        f"the keys are {', '.join(RULE_KEYS)}",
    ),
    "REDACT": Option(
        (),
        _redact,
        "a list of names such as ['national_id'], or a dict such as {'names': ['national_id'], "
        "'callable': 'shop.audit.redact', 'hmac': {'2026': '…'}}",
    ),
    "RESOLVE_ACTOR": Option(True, _boolean(True), "True or False"),
    "TRUSTED_PROXIES": Option(
        (), _trusted_proxies, "a list of networks such as ['10.0.0.0/8', '::1'], or 'unix:' for a UNIX socket"
    ),
    "TRUSTED_PEERS": Option(
        (), _trusted_peers, "a list of networks such as '10.1.0.0/16' and of secrets such as {'secret': '…'}"
    ),
    "AUTH_URLS": Option((), _auth_urls, "a list of paths such as ['/api/sign-in/']", ("DRF_AUDIT_TRAIL_AUTH_URL",)),
    "AUTH_FAILED_STATUS_CODES": Option(
        (401,),
        _status_codes,
        "a list of status codes such as [401]",
        ("DRF_AUDIT_TRAIL_AUTH_STATUS_CODE_FAILED", "DRF_AUDIT_TRAIL_AUTH_STATUS_CODE_FALIED"),
    ),
    "USER_PK_NAME": Option(
        "pk", _name("pk"), "an attribute of the user model such as 'pk'", ("DRF_AUDIT_TRAIL_USER_PK_NAME",)
    ),
    "OTLP": Option(
        None,
        _otlp,
        "a dict such as {'endpoint': 'https://collector:4318/v1/traces', 'protocol': 'http/protobuf', "
        "'headers': {'authorization': '…'}, 'timeout': 10, 'compression': 'gzip', 'certificate': '/etc/ssl/ca.pem', "
        "'durable': True, 'level': 'trace'}",
    ),
    "RECEIVER_CERTIFICATE_HEADER": Option(
        None, _header, "the name of a header such as 'X-Client-Certificate', or None"
    ),
    "TRACE_URL": Option(
        None,
        _trace_url,
        "a template such as 'http://localhost:16686/trace/{trace_id}?uiFind={span_id}', or None",
    ),
}

#: The ancestor's URL settings, whose place ``POLICY`` takes; each is a list of regexes, two of them also of
#: ``{"route": regex, "method": "POST" or "ALL"}``.
LEGACY_OPTIONS: Final[dict[str, Option]] = {
    name: Option(default, parse_legacy, "a list of regular expressions, or 'POLICY' in OTEL_AUDIT")
    for name, default in (
        ("DRF_AUDIT_TRAIL_REQUEST_AUDIT_URLS", None),
        ("DRF_AUDIT_TRAIL_NOTSAVE_REQUEST_BODY_URLS", ()),
        ("DRF_AUDIT_TRAIL_NOTSAVE_RESPONSE_BODY_URLS", ()),
    )
}
