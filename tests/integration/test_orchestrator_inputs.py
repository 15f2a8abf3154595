"""How often the inbox is read: as often as there is news, and until nothing is left."""

from __future__ import annotations

import asyncio

from edow.orchestrator.inputs import IDLE_POLL_SECONDS, Inputs
from edow.store.contract import InboxRow
from tests.integration.memory_store import MemoryStore, MemoryWatch

LIMIT = 3


class Inbox(MemoryStore):
    """Rows that were accepted before anybody read."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.left = [InboxRow(seq, f"e{seq}", 0, b"{}") for seq in range(rows)]
        self.reads: list[int] = []

    def watch(self, channel: str) -> MemoryWatch:
        self.watches.append(MemoryWatch(self))
        return self.watches[-1]

    async def inbox_read(self, shards: object, taken: object, limit: int) -> list[InboxRow]:
        rows, self.left = self.left[:limit], self.left[limit:]
        self.reads.append(len(rows))
        return rows


class Silent:
    """Nobody sends results."""

    async def receive(self, limit: int, wait_seconds: float) -> list[object]:
        await asyncio.Event().wait()
        return []


async def reads_until_idle(rows: int) -> list[int]:
    store = Inbox(rows)
    inputs = Inputs(store, LIMIT, lambda: 0)  # type: ignore[arg-type]
    inputs.start([0], Silent())  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(30):
            seen = 0
            while seen < rows:
                seen += len((await inputs.take(IDLE_POLL_SECONDS)).commands)
            await store.waited.wait()
    finally:
        await inputs.stop()
    return store.reads


async def test_a_read_that_is_not_full_is_the_last():
    """Whatever is committed after it is told, so that nobody looks again before."""
    assert await reads_until_idle(LIMIT - 1) == [LIMIT - 1]


async def test_a_full_read_may_have_left_something():
    """So there is another at once."""
    assert await reads_until_idle(LIMIT + 1) == [LIMIT, 1]
