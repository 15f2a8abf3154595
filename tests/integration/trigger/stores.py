"""Both stores for tests of what is built upon them, with a clock that stands still until it is moved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from edow.app import connect_store
from edow.model import inbox
from edow.model.execution import Execution, Status
from edow.store.contract import Commit, Store, Update
from tests.conformance.postgresql import own_schema

T0 = 1_700_000_000_000_000
STORES = ("sqlite", "postgresql")

Opener = Callable[[], Awaitable[Store]]


class Clock:
    """Microseconds since the epoch."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += round(seconds * 1_000_000)


@asynccontextmanager
async def database(kind: str, folder: object) -> AsyncIterator[str]:
    """The URL of a fresh one; skipped where there is no server."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/store.db"
    else:
        async with own_schema() as url:
            yield url


@asynccontextmanager
async def opener(kind: str, folder: object) -> AsyncIterator[Opener]:
    """Opens the same database again and again, as other processes would."""
    async with database(kind, folder) as url, AsyncExitStack() as stack:

        async def one() -> Store:
            store = connect_store(url)
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield one


async def commands(store: Store) -> list[tuple[str, inbox.AnyCommand]]:
    """All inboxes, in order."""
    rows = await store.inbox_read(range(store.shards), (), 10_000)
    return [(row.execution, inbox.decode(row.command)) for row in rows]


async def signals(store: Store, execution: str) -> list[object]:
    """The values that were sent to it."""
    found = [command for id, command in await commands(store) if id == execution]
    return [msgspec.json.decode(each.payload) for each in found if isinstance(each, inbox.Signal)]


async def row_of(store: Store, execution: str) -> Execution:
    [row] = await store.executions_get([execution])
    assert row is not None
    return row


async def end(store: Store, execution: str, now: int, status: Status = Status.COMPLETED) -> None:
    """As its orchestrator would."""
    row = await row_of(store, execution)
    leases = {each.shard: each.epoch for each in await store.leases_hold("test", store.shards, now, now + 60_000_000)}
    ended = msgspec.structs.replace(row, status=status, ended_at=now, wake_at=None)
    await store.commit(Commit(leases=leases, updates=[Update(row.run, ended)]))
