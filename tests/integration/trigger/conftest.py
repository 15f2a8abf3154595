"""A database, stores on it, and a clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from edow.app import connect_store
from edow.store.contract import Store
from tests.integration.trigger.receiver import Receiver, answer
from tests.integration.trigger.stores import Clock, Opener


@pytest.fixture
async def opened(database: str) -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:

        async def one() -> Store:
            store = connect_store(database)
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield one


@pytest.fixture
async def store(opened: Opener) -> Store:
    return await opened()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver([answer(204)])
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?x=1"
    yield made
    server.close()
