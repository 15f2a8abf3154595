"""What an address says: the servers, who we are, and the options of the driver. Nothing here touches the network."""

from __future__ import annotations

import re
import ssl
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import msgspec

from edow.address import Address
from edow.errors import InvalidInput

MOST_PARTITIONS = 256

_SEED = re.compile(r"^\s*(S[A-Z2-7]+)\s*$", re.MULTILINE)
_HOST = re.compile(r"(\[[0-9A-Fa-f:]+\]|[^\s:\[\]]+)(:\d{1,5})?")


class NatsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a nats:// address. Times in seconds."""

    prefix: str = ""  # put before every topic: several systems share one account
    partitions: int = 16  # how many keyed messages of a topic and group can be worked on at once; fixed with the topic
    replicas: int = 1  # of a stream that is made: 3 in a cluster
    storage: Literal["file", "memory"] = "file"  # of a stream that is made
    in_flight: int = 100_000  # most messages of a group that are received and not acknowledged
    dedupe: float = 30.0  # for so long the server knows a message that is published again after a failure
    publish_timeout: float = 5.0
    request_timeout: float = 5.0
    connect_timeout: float = 5.0
    ping_interval: float = 10.0  # a connection that has missed two pings is given up
    domain: str = ""  # JetStream domain
    inbox: str = "_INBOX"  # prefix of the subjects on which answers are received
    credentials: str = ""  # file with a user's JWT and seed
    nkey: str = ""  # file with a user's seed
    tls: bool = False  # refuse a connection without it
    tls_ca: str = ""  # file with the certificate authorities to trust instead of the system's
    tls_cert: str = ""  # file with our certificate
    tls_key: str = ""  # file with its key, when it is not in the same file
    tls_first: bool = False  # handshake before anything else: the server's `handshake_first`

    def __post_init__(self) -> None:
        _within("partitions", self.partitions, 0, MOST_PARTITIONS)
        _within("replicas", self.replicas, 1, 5)
        _within("in_flight", self.in_flight, 1, 10_000_000)
        for name in ("publish_timeout", "request_timeout", "connect_timeout", "ping_interval"):
            _within(name, getattr(self, name), 0.01, 3600)
        _within("dedupe", self.dedupe, 0.1, 86_400)


def read(address: Address) -> NatsOptions:
    """The options. Raises InvalidInput for what is unknown, out of range or contradictory."""
    options, _ = address.settings(NatsOptions)
    if address.path:
        raise InvalidInput(f"{address}: there is no path in a NATS address; write nats://HOST:PORT?prefix=...")
    for host in address.hosts:
        if not _HOST.fullmatch(host):
            raise InvalidInput(f"{address}: {host!r} is not HOST or HOST:PORT")
    if (options.tls_ca or options.tls_cert or options.tls_first) and not options.tls:
        raise InvalidInput(f"{address}: options for TLS are given, but not tls=true")
    if options.tls_key and not options.tls_cert:
        raise InvalidInput(f"{address}: tls_key is given, but not tls_cert")
    if bool(options.credentials) + bool(options.nkey) + (address.user is not None) > 1:
        raise InvalidInput(f"{address}: give one of user:password@, a token@, credentials=FILE and nkey=FILE")
    return options


def login(address: Address, options: NatsOptions) -> dict[str, Any]:
    """How to reach the servers, in the client's words. Raises InvalidInput when a file that is named cannot be read."""
    for path, mark in ((options.credentials, "BEGIN NATS USER JWT"), (options.nkey, "S")):
        _look_into(address, path, mark)
    scheme = "tls" if options.tls else "nats"
    given: dict[str, Any] = {"servers": [f"{scheme}://{host}" for host in address.hosts or ["localhost"]]}
    if address.user is not None and address.password is None:
        given |= {"token": address.user}
    elif address.user is not None:
        given |= {"user": address.user, "password": address.password}
    if options.tls:
        given |= {"tls": _tls(address, options), "tls_handshake_first": options.tls_first}
    if options.credentials:
        given |= {"user_credentials": options.credentials}
    if options.nkey:
        given |= {"nkeys_seed": options.nkey}
    return given


def _look_into(address: Address, path: str, mark: str) -> None:
    """The client library does not come back from a file that is something else."""
    if not path:
        return
    try:
        text = Path(path).read_text("utf-8", "replace")
    except OSError as problem:
        raise InvalidInput(f"{address}: the file of credentials or nkey cannot be read: {problem}") from problem
    if mark not in text:
        raise InvalidInput(f"{address}: {path!r} is no file of credentials (or nkey): there is no {mark!r} in it")
    _check_seed(address, path, text)


def _check_seed(address: Address, path: str, text: str) -> None:
    """The client library would tell only once a server has asked for it."""
    try:
        nkeys = import_module("nkeys")
    except ImportError:
        raise InvalidInput(f"{address}: credentials and nkey need one more package: pip install nkeys") from None
    seed = _SEED.search(text)
    try:
        nkeys.from_seed(bytearray(seed.group(1).encode() if seed else b""))
    except Exception as problem:
        raise InvalidInput(f"{address}: the seed in {path!r} is none: {type(problem).__name__}") from problem


def _tls(address: Address, options: NatsOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.tls_ca or None)
        if options.tls_cert:
            context.load_cert_chain(options.tls_cert, options.tls_key or None)
    except (OSError, ssl.SSLError) as problem:
        raise InvalidInput(f"{address}: the files for TLS cannot be used: {problem}") from problem
    return context


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; it must be between {least} and {most:,}")
