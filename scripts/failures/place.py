"""The servers of one run: its own, so that they may be stopped, and gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from scripts.servers import Box, private
from scripts.servers.services import SERVERS

FILES = "sqlite"  # no server at all
SHARDS = 12  # the same number for each of three orchestrators, so that one which gets none is seen
BROKERS = ("redis", "nats", "rabbitmq", "kafka")


class Place(msgspec.Struct, frozen=True):
    """Where executions are kept and messages go. No box where that is a file."""

    store: str
    transport: str
    database: Box | None
    broker: Box | None


@contextmanager
def servers(store: str, transport: str, folder: Path) -> Iterator[Place]:
    """Start them. What only lives as long as the run is named after the server; both alike mean one database."""
    with ExitStack() as stack:
        database = None if store == FILES else stack.enter_context(private(SERVERS[store]))
        url = f"{database.url}?shards={SHARDS}" if database else f"sqlite:///{folder / 'edow.db'}"
        if transport == store:
            yield Place(url, url, database, None)
            return
        broker = None if transport == FILES else stack.enter_context(private(SERVERS[transport]))
        yield Place(url, broker.url if broker else f"sqlite:///{folder / 'transport.db'}", database, broker)
