"""Which address counts as the client's."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_audit.client_ip import Networks, client_address, comes_from, parse_networks
from otel_audit.exceptions import ConfigurationError

NOBODY = parse_networks([])
PROXIES = parse_networks(["10.0.0.0/8", "fd00::/8", "::1"])
SOCKET = parse_networks(["unix:"])


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("203.0.113.7:51234", "203.0.113.7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:80", "fe80::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", None),
        ("unix:", None),
        ("unix:/run/gunicorn.sock", None),
        ("/run/x.sock", None),
        ("testclient", None),
        ("010.0.0.1", None),
        ("203.0.113.7, 1.1.1.1", None),
        ("1" * 5000, None),
        ("\0", None),
    ],
)
def test_peer_is_the_client_when_nobody_is_trusted(remote: str, expected: str | None) -> None:
    assert client_address(remote, "198.51.100.1", "for=198.51.100.2", NOBODY) == expected


@pytest.mark.parametrize(
    ("forwarded_for", "expected"),
    [
        (None, "10.0.0.1"),
        ("", "10.0.0.1"),
        ("   ", "10.0.0.1"),
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:5000", "203.0.113.7"),
        ("[2001:db8::7]:5000", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
        ("1.1.1.1,203.0.113.7,10.2.2.2", "203.0.113.7"),
        ("10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ("203.0.113.7, ::ffff:10.2.2.2, fd00::5", "203.0.113.7"),
        ("garbage", "10.0.0.1"),
        ("203.0.113.7, garbage, 10.2.2.2", "10.2.2.2"),
        ("203.0.113.7, unknown", "10.0.0.1"),
        ("203.0.113.7,", "10.0.0.1"),
        ("'; DROP TABLE x --", "10.0.0.1"),
        ("\u0662\u0660\u0663.0.113.7", "10.0.0.1"),  # digits, but not of an address
    ],
)
def test_forwarded_for_is_walked_from_the_right_over_trusted_proxies(forwarded_for: str | None, expected: str) -> None:
    assert client_address("10.0.0.1", forwarded_for, None, PROXIES) == expected


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=203.0.113.7;proto=https;by=10.0.0.9", "203.0.113.7"),
        ("proto=https; for = 203.0.113.7:80", "203.0.113.7"),
        ('for="[2001:db8::7]:4711"', "2001:db8::7"),
        ('for="203.0.113.7:80"', "203.0.113.7"),
        ("for=1.1.1.1, for=203.0.113.7, for=10.2.2.2", "203.0.113.7"),
        ('for="1.1.1.1, for=203.0.113.7', "203.0.113.7"),
        ("for=unknown", "10.0.0.1"),
        ("for=_hidden, for=10.2.2.2", "10.2.2.2"),
        ("proto=https", "10.0.0.1"),
        ("xfor=1.1.1.1", "10.0.0.1"),
        ("for=", "10.0.0.1"),
        ("", "10.0.0.1"),
    ],
)
def test_forwarded_header_is_walked_the_same_way(forwarded: str, expected: str) -> None:
    assert client_address("10.0.0.1", None, forwarded, PROXIES) == expected


def test_forwarded_for_counts_where_both_headers_came() -> None:
    assert client_address("10.0.0.1", "203.0.113.7", "for=198.51.100.2", PROXIES) == "203.0.113.7"


@pytest.mark.parametrize("remote", ["", "unix:", "unix:/run/gunicorn.sock"])
def test_peer_of_a_unix_socket_is_believed_when_it_is_trusted(remote: str) -> None:
    assert client_address(remote, "1.1.1.1, 203.0.113.7", None, SOCKET) == "203.0.113.7"
    assert client_address(remote, None, None, SOCKET) is None
    assert client_address(remote, "203.0.113.7", None, PROXIES) is None


def test_untrusted_peer_cannot_speak_for_anybody() -> None:
    assert client_address("203.0.113.7", "10.0.0.1", "for=10.0.0.1", PROXIES) == "203.0.113.7"


def test_header_of_a_million_characters_is_read_at_its_trusted_end() -> None:
    header = "1.1.1.1," * 125_000 + "203.0.113.7, 10.2.2.2"
    started = time.perf_counter()

    address = client_address("10.0.0.1", header, None, PROXIES)

    assert address == "203.0.113.7"
    assert time.perf_counter() - started < 0.5


def test_long_chain_of_trusted_proxies_ends_at_an_address() -> None:
    assert client_address("10.0.0.1", ",".join(["10.2.2.2"] * 2000), None, PROXIES) == "10.2.2.2"


@pytest.mark.parametrize(
    ("remote", "forwarded_for", "expected"),
    [
        ("198.51.100.7", None, True),
        ("198.51.100.7:80", "", True),
        ("203.0.113.7", None, False),
        ("198.51.100.7", "198.51.100.7", False),  # passed on by nobody that is known
        ("10.0.0.1", None, False),
        ("10.0.0.1", "198.51.100.7", True),
        ("10.0.0.1", "198.51.100.7, 10.2.2.2", True),
        ("10.0.0.1", "198.51.100.7, 203.0.113.7", False),
        ("10.0.0.1", "garbage", False),
        ("", None, False),
        ("unix:", "198.51.100.7", False),
        ("testclient", None, False),
    ],
)
def test_peer_is_known_by_its_address(remote: str, forwarded_for: str | None, expected: bool) -> None:
    peers = parse_networks(["198.51.100.0/24"])

    assert comes_from(peers, remote, forwarded_for, None, PROXIES) is expected
    assert comes_from(peers, remote, None, forwarded_for and f"for={forwarded_for}", NOBODY) is (
        expected and not forwarded_for
    )


def test_peer_behind_a_unix_socket_is_known_as_such() -> None:
    assert comes_from(SOCKET, "", None, None, NOBODY)
    assert not comes_from(SOCKET, "", "198.51.100.7", None, NOBODY)
    assert not comes_from(SOCKET, "", "", "for=198.51.100.7", SOCKET)


@pytest.mark.parametrize("value", ["10.0.0.1/8", "proxy", "", "10.0.0.0/99", None, 3.5, ["10.0.0.1"]])
def test_wrong_network_is_named(value: object) -> None:
    with pytest.raises(ConfigurationError, match="is no network") as caught:
        parse_networks(["127.0.0.1", value])  # type: ignore[list-item]  # what a settings file may hold

    assert repr(value) in str(caught.value)


def test_one_text_instead_of_a_list_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"write \['10\.0\.0\.0/8'\]"):
        parse_networks("10.0.0.0/8")


def test_nobody_is_trusted_by_default() -> None:
    assert parse_networks([]) == Networks(networks=(), unix=False)
    assert not NOBODY.trust(ipaddress.ip_address("127.0.0.1"))
    assert not NOBODY.trust(None)


ADDRESSES = st.ip_addresses().map(str) | st.text(max_size=80)


@given(ADDRESSES, st.none() | st.lists(ADDRESSES, max_size=6).map(",".join), st.none() | st.text(max_size=80))
def test_result_is_one_address_or_none(remote: str, forwarded_for: str | None, forwarded: str | None) -> None:
    for trusted in (NOBODY, parse_networks(["0.0.0.0/0", "::/0", "unix:"])):
        address = client_address(remote, forwarded_for, forwarded, trusted)

        assert address is None or len(address) <= 64
        assert address is None or not address.strip("0123456789abcdef.:")
