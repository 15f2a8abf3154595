"""Where outgoing webhooks may go."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from edow.errors import InvalidInput
from edow.trigger.addresses import Forbidden, checked, find, is_public, networks


@pytest.mark.parametrize(
    "ip",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
        *("::1", "::", "fe80::1", "fc00::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:1::"),
    ],
)
def test_what_is_not_of_the_internet(ip):
    """Private, local, reserved, and whatever may carry such an address inside."""
    assert not is_public(ipaddress.ip_address(ip))


@pytest.mark.parametrize("ip", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_what_is_of_the_internet(ip):
    """Ordinary addresses."""
    assert is_public(ipaddress.ip_address(ip))


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com", "ftp://example.com", "https://", "https:///path", "https://user:pw@example.com"),
        *("https://example.com/a b", "https://example.com/\r\nHost: x", "https://exämple.com", "https://h:99999/"),
        *("https://h:0/", "https://" + "h" * 3000, "file:///etc/passwd", "https://h:port/"),
    ],
)
def test_what_is_no_url_for_a_webhook(url):
    """Refused when it is written down, without repeating a password."""
    with pytest.raises(InvalidInput) as caught:
        checked(url)
    assert "pw" not in str(caught.value)


def resolving(monkeypatch: pytest.MonkeyPatch, *ips: str) -> None:
    """Every name has these addresses."""

    async def getaddrinfo(self: object, host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ips]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


async def test_a_public_name_is_found(monkeypatch):
    """Its first address is the one to connect to, with the scheme's port or the URL's."""
    resolving(monkeypatch, "1.1.1.1", "2606:4700::1111")
    assert await find(checked("https://example.com/x"), ()) == ("1.1.1.1", 443)
    assert await find(checked("https://example.com:8443/x"), ()) == ("1.1.1.1", 8443)


@pytest.mark.parametrize("ips", [("10.0.0.1",), ("1.1.1.1", "127.0.0.1"), ("127.0.0.1", "1.1.1.1"), ("fe80::1%eth0",)])
async def test_a_name_with_any_private_address_is_refused(monkeypatch, ips):
    """Also if another of its addresses is public; which one is used must not be a matter of luck."""
    resolving(monkeypatch, *ips)
    with pytest.raises(Forbidden, match="private"):
        await find(checked("https://example.com"), ())


async def test_plain_http_is_for_allowed_networks_alone(monkeypatch):
    """As private addresses are."""
    resolving(monkeypatch, "1.1.1.1")
    with pytest.raises(Forbidden, match="http"):
        await find(checked("http://example.com"), networks("10.0.0.0/8"))
    resolving(monkeypatch, "10.0.0.1")
    assert await find(checked("http://example.com"), networks("10.0.0.0/8, fd00::/8")) == ("10.0.0.1", 80)
    resolving(monkeypatch, "::ffff:10.0.0.1")
    assert await find(checked("http://example.com"), networks("10.0.0.0/8")) == ("::ffff:a00:1", 80)


def test_networks_that_are_none_are_refused():
    """With the variable's name."""
    assert networks("") == ()
    with pytest.raises(InvalidInput, match="EDOW_WEBHOOK_NETWORKS"):
        networks("10.0.0.1/8")
