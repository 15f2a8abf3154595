"""What the URL says: amqp(s)://user:password@host:port,host:port/vhost?option=value."""

from __future__ import annotations

import re
import ssl
from typing import Literal

import msgspec
from yarl import URL

from edow.address import Address
from edow.errors import InvalidInput

_PREFIX = re.compile(r"(?!amq\.)[A-Za-z0-9_.@#,/-]*")
MOST_BYTES = 128 * 1024 * 1024  # what RabbitMQ 3 takes, unless configured otherwise; RabbitMQ 4: 16 MiB
MOST_PREFETCH = 65_535  # the protocol's
_PORTS = {"amqp": 5672, "amqps": 5671}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the URL. Durations in seconds."""

    prefix: str = ""  # before every exchange's and queue's name: several systems may share a virtual host
    queue: Literal["quorum", "classic"] = "quorum"
    replicas: int = 0  # members of a quorum queue; 0: as the server is set
    partitions: int = 8  # queues that a group's keys are spread over; 0: no order by key
    prefetch: int = 1000  # messages of one queue that a subscriber may hold
    key_prefetch: int = 64  # the same, of each partition
    heartbeat: int = 5  # a connection that is silent for twice as long is dead
    connect_timeout: float = 5.0
    publish_timeout: float = 10.0  # for a whole batch to be confirmed
    consumer_timeout: float = 1800.0  # the server's own, in `rabbitmq.conf`; 0: it has none
    max_message_bytes: int = 8 * 1024 * 1024
    auth: Literal["plain", "external"] = "plain"
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        self._between("replicas", 0, 99)
        self._between("partitions", 0, 256)
        self._between("prefetch", 1, MOST_PREFETCH)
        self._between("key_prefetch", 1, MOST_PREFETCH)
        self._between("heartbeat", 1, 3600)
        self._between("max_message_bytes", 1, MOST_BYTES)
        for name in ("connect_timeout", "publish_timeout"):
            if getattr(self, name) <= 0:
                raise InvalidInput(f"option {name} is {getattr(self, name)}: it must be more than 0 seconds")
        if self.consumer_timeout < 0:
            raise InvalidInput(f"option consumer_timeout is {self.consumer_timeout}: write 0 if the server has none")
        if not _PREFIX.fullmatch(self.prefix):
            raise InvalidInput(
                f"option prefix is {self.prefix!r}: use letters, digits and any of _.@#,/- and do not begin with 'amq.'"
            )

    def _between(self, name: str, least: int, most: int) -> None:
        if not least <= getattr(self, name) <= most:
            raise InvalidInput(f"option {name} is {getattr(self, name)}: it must be between {least} and {most:,}")


class Server(msgspec.Struct, frozen=True):
    """Where to connect and as whom. `str(address)` is for people; `urls` hold the password."""

    address: Address
    options: Options

    @property
    def vhost(self) -> str:
        return self.address.path or "/"

    @property
    def user(self) -> str:
        return self.address.user or "guest"

    def urls(self, purpose: str) -> list[URL]:
        """One for each host, for the client library. `purpose` is shown in the server's list of connections."""
        query = {"heartbeat": str(self.options.heartbeat), "auth": self.options.auth, "name": f"edow {purpose}"}
        return [self._url(host, query) for host in self.address.hosts or ["localhost"]]

    def tls(self) -> ssl.SSLContext | None:
        """Reads files. Raises InvalidInput when they cannot be used."""
        options = self.options
        if self.address.scheme != "amqps":
            return None
        try:
            context = ssl.create_default_context(cafile=options.cafile)
            if options.certfile:
                context.load_cert_chain(options.certfile, options.keyfile)
        except OSError as problem:  # ssl.SSLError is one
            raise InvalidInput(f"{self.address}: cafile, certfile or keyfile cannot be used: {problem}") from problem
        if not options.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _url(self, host: str, query: dict[str, str]) -> URL:
        try:
            name, port = _host_and_port(host)
            return URL.build(
                scheme=self.address.scheme,
                user=self.user,
                password="guest" if self.address.user is None else self.address.password or "",
                host=name,
                port=port or _PORTS[self.address.scheme],
                path="/" if self.vhost == "/" else "/" + self.vhost.replace("/", "%2F"),
                query=query,
            )
        except ValueError as problem:
            raise InvalidInput(f"{self.address}: {host!r} is not a host and port: {problem}") from problem


def read(address: Address) -> Server:
    """Raises InvalidInput for options that nobody knows or that do not fit together."""
    options, _ = address.settings(Options)
    if address.scheme != "amqps":
        for name in ("cafile", "certfile", "keyfile"):
            if getattr(options, name):
                raise InvalidInput(f"{address}: option {name} needs amqps:// instead of amqp://")
    server = Server(address, options)
    server.urls("")
    return server


def _host_and_port(host: str) -> tuple[str, int | None]:
    """Of `name`, `name:5672`, `[::1]` or `[::1]:5672`."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host.strip("[]"), None
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{port!r} is no port")
    return name.strip("[]"), int(port)
