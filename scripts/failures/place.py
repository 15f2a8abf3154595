"""The servers of one run: its own, so that they may be stopped, and gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from edow.errors import InvalidInput
from scripts.failures.network import Network, network
from scripts.servers import Box, private
from scripts.servers.ports import HOST
from scripts.servers.services import SERVERS

DATABASE = "postgres"
SHARDS = 12  # the same number for each of three orchestrators, so that one which gets none is seen
BROKERS = ("redis", "nats", "rabbitmq", "kafka")
TRANSPORTS = (*BROKERS, DATABASE)


class Place(msgspec.Struct, frozen=True):
    """Where executions are kept and messages go. No broker where the database carries them; no network where all
    processes are on this host.
    """

    database: Box
    broker: Box | None
    network: Network | None

    @property
    def store(self) -> str:
        return f"{self.database.url}?shards={SHARDS}"

    @property
    def transport(self) -> str:
        return self.broker.url if self.broker else self.store


@contextmanager
def servers(transport: str, *, broker: bool, networked: bool) -> Iterator[Place]:
    """Start them; with hosts of their own for processes, if `networked`. Raises InvalidInput, before anything is
    started, where there has to be a `broker` and the transport has none.
    """
    if broker and transport == DATABASE:
        raise InvalidInput("this run has no broker of its own: choose another --transport")
    with ExitStack() as stack:
        hosts = stack.enter_context(network()) if networked else None
        where = hosts.address("database") if hosts else HOST
        database = stack.enter_context(private(SERVERS[DATABASE], host=where))
        messages = None
        if transport != DATABASE:
            where = hosts.address("broker") if hosts else HOST
            messages = stack.enter_context(private(SERVERS[transport], host=where))
        yield Place(database, messages, hosts)
