"""What the URL says: amqp(s)://user:password@host:port,host:port/vhost?option=value."""

from __future__ import annotations

import ssl
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from yarl import URL

from edow.address import Address
from edow.errors import InvalidInput

MOST_BYTES = 128 * 1024 * 1024  # what RabbitMQ 3 takes, unless configured otherwise; RabbitMQ 4: 16 MiB
Prefetch = Annotated[int, Meta(ge=1, le=65_535)]  # the protocol's limit
Seconds = Annotated[float, Meta(gt=0)]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the URL."""

    # Before every exchange's and queue's name: several systems may share a virtual host.
    prefix: Annotated[str, Meta(pattern=r"^(?!amq\.)[A-Za-z0-9_.@#,/-]*$")] = ""
    queue: Literal["quorum", "classic"] = "quorum"
    replicas: Annotated[int, Meta(ge=0, le=99)] = 0  # members of a quorum queue; 0: as the server is set
    partitions: Annotated[int, Meta(ge=0, le=256)] = 8  # queues that a group's keys are spread over; 0: no order by key
    prefetch: Prefetch = 1000  # messages of one queue that a subscriber may hold
    key_prefetch: Prefetch = 64  # the same, of each partition
    heartbeat: Annotated[int, Meta(ge=1, le=3600)] = 5  # a connection silent for two or three times as long is dead
    connect_timeout: Seconds = 5.0
    publish_timeout: Seconds = 10.0  # for a whole batch to be confirmed
    max_message_bytes: Annotated[int, Meta(ge=1, le=MOST_BYTES)] = 8 * 1024 * 1024
    auth: Literal["plain", "external"] = "plain"
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    verify: bool = True


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
        return [self._url(host, purpose) for host in self.address.hosts or ["localhost"]]

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

    def _url(self, host: str, purpose: str) -> URL:
        options = self.options
        try:
            url = URL(f"{self.address.scheme}://{host}")
            return URL.build(
                scheme=url.scheme,
                user=self.user,
                password="guest" if self.address.user is None else self.address.password or "",
                host=url.host or "",
                port=url.port or (5671 if url.scheme == "amqps" else 5672),
                path="/" + self.vhost.replace("/", "%2F"),
                query={"heartbeat": str(options.heartbeat), "auth": options.auth, "name": f"edow {purpose}"},
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
    if options.auth == "external" and (address.scheme != "amqps" or not options.certfile):
        raise InvalidInput(f"{address}: auth=external needs amqps:// and certfile=: a certificate says who we are")
    server = Server(address, options)
    server.urls("")
    return server
