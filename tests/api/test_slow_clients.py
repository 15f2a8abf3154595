"""Clients that hold on to a connection: what each is answered, and what others notice of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from edow.api.connection import MOST_CONNECTIONS, most_connections
from edow.api.server import Server
from tests.api.serving import Api

Open = Callable[[bytes], Awaitable[asyncio.StreamReader]]
HEADERS = b"POST /hooks/n HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def listening(api: Api, *, seconds: float = 0.2, most: int | None = None) -> AsyncIterator[Open]:
    """A server; what is given sends bytes on a connection that stays open, and reads what is answered."""
    server = Server(api.app, "127.0.0.1", 0, receive_seconds=seconds, most=most)
    await server.start()
    port = int(server.url.rpartition(":")[2])
    writers: list[asyncio.StreamWriter] = []

    async def open(data: bytes) -> asyncio.StreamReader:
        """The bytes are there before the server has looked at the connection, however slow this machine is."""
        plain = socket.create_connection(("127.0.0.1", port))
        plain.sendall(data)
        reader, writer = await asyncio.open_connection(sock=plain)
        writers.append(writer)
        return reader

    try:
        yield open
    finally:
        for writer in writers:
            writer.close()
        await server.stop()


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /health/live HTTP/1.1\r\nHost: loc", HEADERS + b"\r\n{", HEADERS + b"Expect: 100-continue\r\n\r\n"],
    ids=["nothing", "half of the headers", "a byte of the body", "a body that is announced"],
)
async def test_a_request_that_does_not_arrive(api: Api, begun: bytes):
    """It is answered with 408 and closed, without a token, whatever there is of it."""
    async with listening(api) as open:
        answered = await (await open(begun)).read()
        assert answered.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").startswith(b"HTTP/1.1 408 ")


async def test_a_request_that_waits_for_a_result(api: Api):
    """It may wait for longer than a request may take to arrive."""
    await api.client.submit_named("w", [("long", {})])
    asked = b"GET /api/v1/executions/long/result?timeout=1s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with listening(api) as open:
        assert (await (await open(asked)).readline()).startswith(b"HTTP/1.1 202 ")


async def test_an_answer_that_nobody_reads(api: Api):
    """Its connection is given up, and so the only place there is becomes free."""
    document = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with listening(api, most=1) as open:
        await open(document * 400)
        answered = b""
        while not answered.startswith(b"HTTP/1.1 200 "):
            with contextlib.suppress(ConnectionResetError):
                answered = await (await open(HEALTH)).readline()


async def test_more_connections_than_there_is_room_for(api: Api):
    """The one too many is answered with 503 at once; when another has ended, there is room again."""
    async with listening(api, seconds=60.0, most=2) as open:
        held = [await open(b"GET /"), await open(HEADERS + b"\r\n{")]
        assert (await (await open(b"")).read()).startswith(b"HTTP/1.1 503 ")
        assert not any(each.at_eof() for each in held)


def test_room_in_this_process():
    """Never more than it may open files."""
    assert 0 < most_connections() <= MOST_CONNECTIONS
