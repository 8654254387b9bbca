"""Where a request came from: one address, believed only as far as the proxies that reported it are trusted.

Every proxy appends the address it saw to ``X-Forwarded-For`` (or ``Forwarded``, RFC 7239), so the header is read from
the right, and only while the address that wrote an entry is one of the site's own proxies. What stands left of the
first foreign address is the client's own invention (CWE-290, CWE-348).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from otel_audit.exceptions import ConfigurationError

__all__ = ["Networks", "client_address", "comes_from", "is_trusted", "parse_networks"]

#: What `parse_networks` takes for "the peer on the other end of a UNIX socket", which has no address.
UNIX_SOCKET: Final = "unix:"

_MAX_HEADER: Final = 4096  # characters, taken from the right: the trusted end
_MAX_ENTRY: Final = 128
_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"([^"]*)"|([^;"]*))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks whose members are believed, and whether the peer of a UNIX socket is one of them."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False

    def trust(self, address: IPv4Address | IPv6Address | None) -> bool:
        """Whether ``address`` (None: the peer of a UNIX socket) belongs to these networks."""
        if address is None:
            return self.unix
        return any(address in network for network in self.networks)


def parse_networks(values: Iterable[str]) -> Networks:
    """Parse addresses and networks such as ``"10.0.0.0/8"``, ``"::1"`` and ``"unix:"``.

    Raises:
        ConfigurationError: an entry is none of these; the message names it.
    """
    if isinstance(values, str):
        raise ConfigurationError(f"networks are a list, got the text {values!r}; write [{values!r}] instead.")
    values = tuple(values)
    try:
        return _cached(values)
    except TypeError:  # an entry that cannot be hashed is no network either, and is to be named
        return _parse_all(values)


def client_address(remote_addr: str, forwarded_for: str | None, forwarded: str | None, trusted: Networks) -> str | None:
    """Return the client's address as normalised text of at most 64 characters.

    Where both headers came, ``X-Forwarded-For`` counts: it is the one that proxies set, the other one may have passed
    through them as the client wrote it.

    Args:
        remote_addr: the peer's address as the server says; empty or ``unix:…`` behind a UNIX socket.
        forwarded_for: the ``X-Forwarded-For`` header, several of them joined by commas.
        forwarded: the ``Forwarded`` header, likewise.
        trusted: the site's own proxies; nobody is trusted by default.

    Returns:
        The address furthest from us that a trusted peer vouches for; None when there is none at all.
    """
    current = _address(remote_addr)
    if current is None and not _is_unix(remote_addr):
        return None
    if trusted.trust(current):
        for entry in _entries(forwarded_for, forwarded):
            address = _address(entry)
            if address is None:
                break
            current = address
            if not trusted.trust(address):
                break
    return None if current is None else str(current)


def is_trusted(remote_addr: str, trusted: Networks) -> bool:
    """Whether the peer on the other end of the connection itself is one of ``trusted``."""
    current = _address(remote_addr)
    return trusted.trust(current) if current is not None else _is_unix(remote_addr) and trusted.unix


def comes_from(
    peers: Networks, remote_addr: str, forwarded_for: str | None, forwarded: str | None, trusted: Networks
) -> bool:
    """Whether a request was sent by one of ``peers``, directly or through trusted proxies.

    One that says it was passed on, by somebody who is no trusted proxy, comes from nobody: a proxy that is not known
    as one would make a peer of every client behind it.
    """
    current = _address(remote_addr)
    if current is None and not _is_unix(remote_addr):
        return False
    if forwarded_for or forwarded:
        if not trusted.trust(current):
            return False
        current = _address(client_address(remote_addr, forwarded_for, forwarded, trusted) or "")
        if current is None:
            return False
    return peers.trust(current)


def _parse_all(values: tuple[str, ...]) -> Networks:
    networks: list[IPv4Network | IPv6Network] = []
    unix = False
    for value in values:
        if value in (UNIX_SOCKET, "unix"):
            unix = True
            continue
        try:
            networks.append(ip_network(value))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{value!r} is no network: {error}. Write an address or a network without host bits, such as "
                f"'10.0.0.0/8', '2001:db8::/32' or '127.0.0.1', or {UNIX_SOCKET!r} for a proxy behind a UNIX socket."
            ) from error
    return Networks(tuple(networks), unix)


_cached = lru_cache(maxsize=16)(_parse_all)


def _is_unix(remote_addr: str) -> bool:
    return not remote_addr.strip() or remote_addr.startswith(("unix:", "/", "@"))


def _entries(forwarded_for: str | None, forwarded: str | None) -> Iterator[str]:
    """Yield the entries of the header that counts, the nearest proxy's first.

    An address holds no comma, so that an unbalanced quote further left cannot swallow what a proxy appended.
    """
    if forwarded_for and forwarded_for.strip():
        yield from _reversed_items(forwarded_for)
        return
    for element in _reversed_items(forwarded or ""):
        match = _FOR.search(element)
        yield "" if match is None else match[1] or match[2] or ""


def _reversed_items(header: str) -> Iterator[str]:
    items = header[-_MAX_HEADER:].split(",")
    if len(header) > _MAX_HEADER:
        del items[0]  # it may have lost its beginning
    return reversed(items)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address that may carry a port, brackets or a zone; None for anything else."""
    return _parse(text) if len(text) <= _MAX_ENTRY else None


@lru_cache(maxsize=1024)
def _parse(text: str) -> IPv4Address | IPv6Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped
