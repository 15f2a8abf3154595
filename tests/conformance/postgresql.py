"""What tests of the PostgreSQL drivers share: a schema of a test's own on the server that EDOW_POSTGRES names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from edow.address import Address
from edow.app import now
from edow.postgresql import connect
from edow.store.postgresql import PostgresStore
from edow.transport.contract import TopicSpec
from edow.transport.postgresql import PostgresTransport
from tests.conformance.transports import url_of


@asynccontextmanager
async def own_schema() -> AsyncIterator[str]:
    """Its URL; the test is skipped where there is no server."""
    url = url_of("POSTGRES", Path())
    try:
        yield url
    finally:
        await drop_schema(url)


async def drop_schema(url: str) -> None:
    async with connection_to(url) as connection:
        await connection.execute(f'DROP SCHEMA IF EXISTS "{schema_of(url)}" CASCADE')


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[asyncpg.Connection]:
    """For what a test does behind EDOW's back."""
    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        await connection.execute(f"SET search_path = {schema_of(url)}")
        yield connection
    finally:
        await connection.close()


def schema_of(url: str) -> str:
    return Address(url).options["schema"]


class Joined:
    """A store and a transport in one schema."""

    def __init__(self, url: str) -> None:
        self.database = connect(Address(url), now)
        self.store = PostgresStore(self.database)
        self.transport = PostgresTransport(self.database)
        self.store.enlist(self.transport)

    async def open(self) -> None:
        await self.store.open()
        await self.transport.open()
        await self.transport.ensure([TopicSpec("tasks", ("workers",)), TopicSpec("results", ("us",))])

    async def close(self) -> None:
        await self.transport.close()
        await self.store.close()


class Wire:
    """A way to the server that can be cut, or lose the answers. `url` leads through it."""

    def __init__(self, url: str) -> None:
        self._there = Address(url)
        self.url = ""
        self.deaf = False  # answers are lost
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._there.url.replace(self._there.hosts[0], f"127.0.0.1:{port}")

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """All connections of this moment."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._there.hosts[0].partition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port or 5432))
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer, False), self._pump(far_reader, writer, True))
        self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        try:
            while data := await reader.read(65_536):
                if not (answers and self.deaf):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        writer.close()
