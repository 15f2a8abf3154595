"""How senders of webhooks prove who they are: one function for each scheme, pure, in constant time.

A scheme says whether the request was signed with one of the secrets, how old it claims to be where that is signed too,
and what the sender calls the delivery. Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks ·
GitHub: https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries ·
Stripe: https://docs.stripe.com/webhooks#verify-manually ·
Slack: https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from edow.errors import InvalidInput

Scheme = Literal["standard-webhooks", "github", "stripe", "slack", "hmac", "none"]
Algorithm = Literal["sha256", "sha512"]
Encoding = Literal["hex", "base64"]

MOST_SIGNATURES = 16  # looked at in one request
PREFIX = "whsec_"


class Hmac(msgspec.Struct, frozen=True, omit_defaults=True):
    """The scheme `hmac`: whatever else signs the body. With `timestamp_header` it signs `TIMESTAMP.BODY`."""

    signature_header: str = "x-signature"
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    prefix: str = ""  # of the header's value, such as sha256=
    timestamp_header: str = ""  # seconds since the epoch
    id_header: str = ""  # what the sender calls the delivery


class Refused(Exception):
    """The request is not from who it says, or too old. `reason` is counted: signature, timestamp."""

    def __init__(self, reason: Literal["signature", "timestamp"], message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Request(msgspec.Struct, frozen=True):
    """What arrived. Names of headers in lower case."""

    headers: Mapping[str, str]
    body: bytes
    at: int  # seconds since the epoch, by our clock
    tolerance: int  # seconds, in both directions


def verify(scheme: Scheme, request: Request, secrets: Sequence[bytes], how: Hmac) -> str | None:
    """The delivery's id where a header has it. Raises Refused."""
    return _SCHEMES[scheme](request, secrets, how)


def check_secret(scheme: Scheme, secret: bytes) -> None:
    """Raises InvalidInput for what can be no secret of the scheme; the message does not show it."""
    if not secret:
        raise InvalidInput("the secret is empty: then everybody could sign")
    if scheme == "standard-webhooks":
        standard_key(secret)


def standard_key(secret: bytes) -> bytes:
    """The key in `whsec_BASE64`; the prefix may be left out. Raises InvalidInput."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX.encode()), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise InvalidInput("a secret of Standard Webhooks is base64, with whsec_ before it; this one is not")
    return key


def standard_signature(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The value of the header webhook-signature."""
    content = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(_digest(key, content)).decode()


def _standard(request: Request, secrets: Sequence[bytes], _: Hmac) -> str:
    id = _header(request, "webhook-id")
    at = _fresh(request, _header(request, "webhook-timestamp"))
    given = [value for value in _header(request, "webhook-signature").split(" ") if value.startswith("v1,")]
    _match(given, [standard_signature(standard_key(secret), id, at, request.body) for secret in secrets])
    return id


def _github(request: Request, secrets: Sequence[bytes], _: Hmac) -> str | None:
    """Signs neither the time nor the delivery's id: a request that somebody recorded can be sent again under another
    id. So the hook knows the body's digest as well.
    """
    given = _header(request, "x-hub-signature-256")
    _match([given], ["sha256=" + _digest(secret, request.body).hex() for secret in secrets])
    return request.headers.get("x-github-delivery")


def _stripe(request: Request, secrets: Sequence[bytes], _: Hmac) -> None:
    pairs = [part.strip().partition("=") for part in _header(request, "stripe-signature").split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    given = [value for name, _, value in pairs if name == "v1"]
    at = _fresh(request, times[0] if times else "")
    content = f"{at}.".encode() + request.body
    _match(given, [_digest(secret, content).hex() for secret in secrets])


def _slack(request: Request, secrets: Sequence[bytes], _: Hmac) -> None:
    at = _fresh(request, _header(request, "x-slack-request-timestamp"))
    content = f"v0:{at}:".encode() + request.body
    _match([_header(request, "x-slack-signature")], ["v0=" + _digest(secret, content).hex() for secret in secrets])


def _hmac(request: Request, secrets: Sequence[bytes], how: Hmac) -> str | None:
    given = _header(request, how.signature_header)
    content = request.body
    if how.timestamp_header:
        content = f"{_fresh(request, _header(request, how.timestamp_header))}.".encode() + content
    expected = [how.prefix + _written(_digest(secret, content, how.algorithm), how.encoding) for secret in secrets]
    _match([given], expected)
    return request.headers.get(how.id_header.lower()) if how.id_header else None


def _none(*_: object) -> None:
    """Whoever reaches it may use it."""


def _match(given: Sequence[str], expected: Sequence[str]) -> None:
    """All of them are compared, each in constant time, so that the time tells nothing."""
    found = False
    for one in given[:MOST_SIGNATURES]:
        for other in expected:
            found |= hmac.compare_digest(one.encode(), other.encode())
    if not found:
        raise Refused("signature", "the signature is not one of this hook's secrets")


def _digest(key: bytes, content: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.digest(key, content, getattr(hashlib, algorithm))


def _written(digest: bytes, encoding: Encoding) -> str:
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()


def _header(request: Request, name: str) -> str:
    value = request.headers.get(name.lower())
    if not value:
        raise Refused("signature", f"the header {name} is missing")
    return value


def _fresh(request: Request, text: str) -> int:
    """Written as the sender wrote it: what is signed are those characters."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and str(int(text)) == text):
        raise Refused("timestamp", "the timestamp is not a whole number of seconds since the epoch")
    at = int(text)
    if abs(request.at - at) > request.tolerance:
        direction = "old" if at < request.at else "far in the future"
        raise Refused("timestamp", f"the request is too {direction}: more than {request.tolerance} s; check the clocks")
    return at


_SCHEMES: Mapping[Scheme, Callable[[Request, Sequence[bytes], Hmac], str | None]] = {
    "standard-webhooks": _standard,
    "github": _github,
    "stripe": _stripe,
    "slack": _slack,
    "hmac": _hmac,
    "none": _none,
}
SCHEMES: tuple[Scheme, ...] = tuple(_SCHEMES)
