"""What the tests of the Redis transport share: its servers, members, and an ordinary client beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from uuid import uuid4

from redis.asyncio import Redis

from edow.address import Address
from edow.errors import TransportUnavailable
from edow.transport.contract import Mode, Subscriber, Subscription, TopicSpec, Transport
from edow.transport.redis import connect
from scripts.servers import redis as redis_server
from scripts.servers.box import Box
from tests.servers import private_server, server_url

Result = TypeVar("Result")


def transport_at(address: str) -> Transport:
    return connect(Address(address), lambda: 0)


@asynccontextmanager
async def own_prefix() -> AsyncIterator[str]:
    """A URL on the shared server with a prefix of its own, whose keys are deleted at the end."""
    prefix = uuid4().hex
    url = f"{server_url('EDOW_REDIS')}?prefix={prefix}"
    yield url
    async with raw(url) as client:
        for key in [key async for key in client.scan_iter(f"{{edow:{prefix}*}}*", count=1000)]:
            await client.delete(key)


@contextmanager
def own_server(**options: Any) -> Iterator[Box]:
    """A server to stop, fill or misconfigure."""
    with private_server(redis_server, **options) as box:
        yield box


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Transport]:
    transport = transport_at(url)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Any]:
    """An ordinary client, to do what others do."""
    client = Redis.from_url(url.partition("?")[0], protocol=2)
    try:
        yield client
    finally:
        await client.aclose()


async def member(transport: Transport, mode: Mode = "shared", lease: float = 30.0, topic: str = "t") -> Subscriber:
    """Of group `g`."""
    if mode == "shared":
        await transport.ensure([TopicSpec(topic, ("g",))])
    return await transport.subscribe(Subscription(topics=(topic,), group="g", mode=mode, lease_seconds=lease))


async def persistently(work: Callable[[], Awaitable[Result]]) -> Result:
    """As all loops above do: try again while the broker is away."""
    while True:
        try:
            return await work()
        except TransportUnavailable:
            await asyncio.sleep(0.02)


def root_of(url: str) -> str:
    """What all keys of a URL's prefix begin with."""
    prefix = url.partition("prefix=")[2]
    return f"{{edow:{prefix}}}" if prefix else "{edow}"


async def keys(client: Any, url: str) -> set[str]:
    """What is kept for a URL's prefix, without the beginning that all names share."""
    root = root_of(url)
    return {key.decode().removeprefix(f"{root}:") async for key in client.scan_iter(f"{root}*")}
