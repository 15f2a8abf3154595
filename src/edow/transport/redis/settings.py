"""What can be said in the URL: redis://user:password@host:port,host:port/database?option=value."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec

from edow.address import Address
from edow.errors import InvalidInput

MAX_MESSAGE_BYTES = 8 * 1024 * 1024  # a payload of 2 MiB and what surrounds it, with room
MOST_MESSAGE_BYTES = 64 * 1024 * 1024
PORT = 6379


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the URL. Durations in seconds."""

    prefix: str = ""  # systems with different prefixes share a Redis and know nothing of each other
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 5.0  # for connecting, and for every answer
    max_message_bytes: Annotated[int, msgspec.Meta(gt=0, le=MOST_MESSAGE_BYTES)] = MAX_MESSAGE_BYTES
    maxlen: Annotated[int, msgspec.Meta(ge=0)] = 0  # publish is refused while a group has so many messages; 0: never
    replicas: Annotated[int, msgspec.Meta(ge=0)] = 0  # publish waits until so many replicas have the messages
    ssl_ca_certs: str | None = None  # file; None: what the system trusts
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_cert_reqs: Literal["required", "optional", "none"] = "required"
    ssl_check_hostname: bool = True


class Place(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def read_settings(address: Address) -> Settings:
    """Raises InvalidInput for what no option can be."""
    settings, _ = address.settings(Settings)
    if "{" in settings.prefix or "}" in settings.prefix:
        raise InvalidInput(f"{address}: prefix {settings.prefix!r} must not contain braces: Redis gives them a meaning")
    if address.scheme != "rediss" and any(name.startswith("ssl_") for name in address.options):
        raise InvalidInput(f"{address}: options ssl_* are for TLS: write rediss:// instead of redis://")
    places(address)
    database(address)
    return settings


def places(address: Address) -> list[Place]:
    """The servers to try, in turn. Raises InvalidInput for a port that is no number."""
    return [_place(address, host) for host in address.hosts or ["localhost"]]


def _place(address: Address, text: str) -> Place:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return Place(text.strip("[]"), PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidInput(f"{address}: {port!r} is not a port: write a number from 1 to 65535")
    return Place(host.strip("[]"), int(port))


def database(address: Address) -> int:
    """The number after the slash. Raises InvalidInput for anything else."""
    if not address.path:
        return 0
    if not address.path.isdecimal():
        raise InvalidInput(f"{address}: {address.path!r} is not a database: write a number, such as /0, or nothing")
    return int(address.path)


def root(settings: Settings) -> str:
    """What all our keys begin with. The braces put them into one hash slot, so that a script may use them all."""
    return f"{{edow:{settings.prefix}}}" if settings.prefix else "{edow}"
