"""What a `postgresql://` URL may say: our own options, and those of the client library, which it gets as they are."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

import msgspec

from edow.address import Address
from edow.errors import InvalidInput

# Read by asyncpg from its URL. Anything else it would take for a setting of the server.
CLIENT_OPTIONS = frozenset(
    [
        "host",
        "port",
        "dbname",
        "database",
        "user",
        "password",
        "passfile",
        "service",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "sslpassword",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
        "application_name",
    ]
)
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")  # asyncpg takes one that is missing for a server that is away
MOST_SHARDS = 1024  # an inbox number has ten bits for the shard
MOST_MESSAGE_BYTES = 256 * 1024 * 1024  # a quarter of what one value may have


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Options of a URL. Times are seconds."""

    schema: str = "edow"  # everything of ours is in here, so that it may lie in a database with other things
    shards: int = 4  # counts only when the schema is made
    connections: int = 4  # at most, of each process; one more to listen, and an orchestrator's for its leases
    listen: str = "on"  # on; off: only look now and then; HOST:PORT: past a pooler, directly to the server
    poll: float = 0.1  # how often to look for news while nobody tells us
    prepare: bool = True  # false behind a pooler that cannot keep prepared statements
    connect_timeout: float = 5.0
    timeout: float = 30.0  # of a statement
    max_message_bytes: int = 8 * 1024 * 1024

    def checked(self, address: Address) -> Settings:
        """Itself, if every value can be. Raises InvalidInput."""
        for name, value, least, most in (
            ("shards", self.shards, 1, MOST_SHARDS),
            ("connections", self.connections, 1, 1000),
            ("poll", self.poll, 0.001, 60),
            ("connect_timeout", self.connect_timeout, 0.01, 3600),
            ("timeout", self.timeout, 0.01, 3600),
            ("max_message_bytes", self.max_message_bytes, 1, MOST_MESSAGE_BYTES),
        ):
            if not least <= value <= most:
                raise InvalidInput(f"{address}: {name} {value} is not between {least} and {most:,}")
        if not 0 < len(self.schema.encode()) <= 63 or not self.schema.isprintable():
            raise InvalidInput(f"{address}: schema {self.schema!r} is no name of 1 to 63 bytes")
        listening_place(self.listen, address)
        return self


def settings_of(address: Address) -> tuple[Settings, str]:
    """Our settings, and the URL for the client library, which holds the password. Raises InvalidInput."""
    settings, others = address.settings(Settings, CLIENT_OPTIONS.__contains__)
    plain = address.url.partition("://")[2].partition("?")[0]
    if not address.path and "dbname" not in others and "database" not in others and "service" not in others:
        raise InvalidInput(f"{address} names no database: write postgresql://USER@HOST/DATABASE")
    for name in FILES:
        if name in others and not Path(others[name]).is_file():
            raise InvalidInput(f"{address}: {name}={others[name]} is no file")
    return settings.checked(address), f"postgresql://{plain}?{urlencode(others)}"


def listening_place(listen: str, address: Address) -> tuple[str, int] | None:
    """Host and port of a direct connection; None: the ones that everything else uses."""
    if listen in ("on", "off"):
        return None
    host, mark, port = listen.rpartition(":")
    if not mark or not host or not port.isdigit():
        raise InvalidInput(
            f"{address}: listen {listen!r} is neither on, off, nor HOST:PORT of the server behind the pooler"
        )
    return host, int(port)
