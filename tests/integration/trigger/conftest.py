"""A database, stores on it, and a clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from edow.app import connect_store
from edow.store.contract import Store
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
