"""Where outgoing webhooks may go: to public addresses, and to those that whoever runs the process has allowed.

An address is looked up, judged, and connected to as it was judged: a name that points elsewhere a moment later changes
nothing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from edow.errors import InvalidInput

VARIABLE = "EDOW_WEBHOOK_NETWORKS"
MAX_URL = 2048
PORTS = {"http": 80, "https": 443}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

# Addresses that hold an IPv4 address, which may be a private one: translated (RFC 6052, RFC 8215) and 6to4.
_CARRIERS = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))


class Forbidden(Exception):
    """The place is not one that webhooks may be sent to."""


def networks(text: str) -> tuple[Network, ...]:
    """Of the variable: networks with commas between them. Raises InvalidInput."""
    try:
        return tuple(ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip())
    except ValueError as problem:
        raise InvalidInput(f"{VARIABLE}={text!r:.200}: {problem}; write networks like 10.0.0.0/8,fd00::/8") from None


def checked(url: str) -> SplitResult:
    """The parts of a URL that a webhook may have. Raises InvalidInput, which repeats nothing secret in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput("the webhook's URL is none: write https://HOST/PATH") from None
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise InvalidInput("a webhook's URL is https://HOST/PATH (or http:// within networks that are allowed)")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("a webhook's URL holds no user and no password: what it sends is signed instead")
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput(f"a webhook's URL has at most {MAX_URL} printable ASCII characters and no spaces")
    return parts


async def find(parts: SplitResult, allowed: Sequence[Network]) -> tuple[str, int]:
    """An address to connect to, and the port. Raises Forbidden, OSError."""
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    ips = [ipaddress.ip_address(each[4][0].partition("%")[0]) for each in found if isinstance(each[4][0], str)]
    if not ips:
        raise Forbidden("its host has no address")
    for ip in ips:  # all of them: which one is used must not be a matter of luck
        if not _permitted(ip, parts.scheme, allowed):
            what = "http" if is_public(ip) else "private"
            raise Forbidden(f"its host has an address that is {what}; {VARIABLE} allows networks")
    return str(ips[0]), port


def is_public(ip: Ip) -> bool:
    """Whether it belongs to the internet, by itself and by whatever address it carries."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(ip.ipv4_mapped)
        if any(ip in carrier for carrier in _CARRIERS):
            return False
    return ip.is_global and not ip.is_multicast


def _permitted(ip: Ip, scheme: str, allowed: Sequence[Network]) -> bool:
    plain = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped else ip
    if any(plain in network for network in allowed if network.version == plain.version):
        return True
    return scheme == "https" and is_public(ip)
